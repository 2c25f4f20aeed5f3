-- @P2: token. @P3: its uses as they were read. @P4: peer. @P5: name. @P6: now. @P7: by. @P8: group.
-- @P9: the agent that was thrown out and gives its name, or none. @P10: what it is called then. @P11: audit detail of that.
UPDATE lull.tokens SET uses = uses + 1 WHERE token_id = @P2 AND uses = @P3 AND revoked_us IS NULL;
IF @@ROWCOUNT <> 1
    SET @outcome = 2;
IF @outcome = 0 AND @P9 IS NOT NULL
BEGIN
    UPDATE lull.agents SET name = @P10, name_folded = LOWER(@P10)
    WHERE agent_id = @P9 AND intake = 'revoked' AND name_folded = LOWER(@P5);
    IF @@ROWCOUNT <> 1
        SET @outcome = 2;
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P6, @P7, 'agent.replace', CONCAT('a', @P9), @P11);
END;
IF EXISTS (SELECT 1 FROM lull.agents AS agents WHERE agents.peer = @P4 OR agents.name_folded = LOWER(@P5))
    SET @outcome = 2;
IF @outcome = 0
BEGIN
    SET @result = (SELECT COALESCE(MAX(agents.agent_id), 0) + 1 FROM lull.agents AS agents);
    INSERT INTO lull.agents (agent_id, name, name_folded, peer, intake, token_id, enrolled_us, labels, results_refused, group_name)
    VALUES (@result, @P5, LOWER(@P5), @P4, 'open', @P2, @P6, '{}', 0, @P8);
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P6, @P7, 'agent.enrol', CONCAT('a', @result), @P5);
END;
