-- @P2: the term above which the next one is to be. @P3: the number up to which jobs count as given. @P4: now. @P5: by.
-- @P6: action. @P7: subject. @P8: detail.
UPDATE lull.leader
SET holder = NULL, lease_end_us = 0,
    term = CASE WHEN term < @P2 THEN @P2 ELSE term END,
    last_job = CASE WHEN last_job < @P3 THEN @P3 ELSE last_job END
WHERE leader_id = 1;
INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P4, @P5, @P6, @P7, @P8);
