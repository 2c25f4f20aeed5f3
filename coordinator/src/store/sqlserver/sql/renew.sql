-- @P2: the lease's end.
UPDATE lull.reign SET lease_end_us = @P2 WHERE reign_id = 1;
