SELECT leader.term, leader.holder, leader.writ, leader.lease_end_us FROM lull.leader AS leader WHERE leader.leader_id = 1;
