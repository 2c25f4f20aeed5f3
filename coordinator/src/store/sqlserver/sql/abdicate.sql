UPDATE lull.reign SET holder = NULL, lease_end_us = 0 WHERE reign_id = 1;
