-- @P2: agent. @P3: now. @P4: by.
UPDATE lull.agents SET removed_us = @P3 WHERE agent_id = @P2 AND intake = 'revoked' AND removed_us IS NULL;
SET @result = @@ROWCOUNT;
IF @result = 1
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    SELECT @P3, @P4, 'agent.remove', CONCAT('a', @P2), agents.name FROM lull.agents AS agents WHERE agents.agent_id = @P2;
