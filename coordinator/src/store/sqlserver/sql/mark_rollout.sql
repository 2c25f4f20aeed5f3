-- @P2: number. @P3: waves begun. @P4: forgiven. @P5: why it stands still. @P6: agents as JSON. @P7: now. @P8: by; NULL: nothing
-- for the audit. @P9: operation. @P10: detail.
UPDATE lull.rollouts SET waves_begun = @P3, forgiven = @P4, stopped = @P5 WHERE number = @P2;
SET @result = @@ROWCOUNT;
UPDATE rollout_agents
SET step = item.step, reason = item.reason, changed_us = @P7
FROM lull.rollout_agents AS rollout_agents
INNER JOIN OPENJSON(@P6) WITH (agent_id bigint '$.a', step varchar(16) '$.s', reason nvarchar(2000) '$.r') AS item
    ON item.agent_id = rollout_agents.agent_id
WHERE rollout_agents.number = @P2;
INSERT INTO lull.rollout_agents (number, agent_id, step, reason, changed_us)
SELECT @P2, item.agent_id, item.step, item.reason, @P7
FROM OPENJSON(@P6) WITH (agent_id bigint '$.a', step varchar(16) '$.s', reason nvarchar(2000) '$.r') AS item
WHERE NOT EXISTS (
    SELECT 1 FROM lull.rollout_agents AS known WHERE known.number = @P2 AND known.agent_id = item.agent_id);
IF @P8 IS NOT NULL
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P7, @P8, @P9, CONCAT('release ', @P2), @P10);
