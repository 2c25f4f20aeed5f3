-- @P2: agent. @P3: now.
UPDATE lull.agents SET left_us = @P3 WHERE agent_id = @P2;
SET @result = @@ROWCOUNT;
IF @result = 1
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    SELECT @P3, agents.name, 'agent.leave', CONCAT('a', @P2), '' FROM lull.agents AS agents WHERE agents.agent_id = @P2;
