SELECT leader.term, leader.holder, leader.lease_end_us, leader.writes, leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
