-- Asks only whether we reign.
SET @result = 0;
