UPDATE lull.leader SET holder = NULL, lease_end_us = 0 WHERE leader_id = 1;
