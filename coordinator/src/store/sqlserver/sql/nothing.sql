-- Asks only whether we lead.
SET @result = 0;
