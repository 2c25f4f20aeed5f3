-- @P2: the lease's end.
UPDATE lull.leader SET lease_end_us = @P2 WHERE leader_id = 1;
