-- @P2: the epoch above which the next one is to be.
UPDATE lull.reign SET holder = NULL, lease_end_us = 0, epoch = CASE WHEN epoch < @P2 THEN @P2 ELSE epoch END WHERE reign_id = 1;
