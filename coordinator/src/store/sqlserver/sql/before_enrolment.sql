-- What is decided upon when a machine wants in. @P1: token. @P2: peer. @P3: names in small letters, as JSON.
SELECT tokens.token_id, tokens.role, tokens.name, tokens.fingerprint, tokens.uses, tokens.uses_max, tokens.created_us,
    tokens.created_by, tokens.expires_us, tokens.revoked_us, tokens.bound_names, tokens.bound_group
FROM lull.tokens AS tokens
WHERE tokens.token_id = @P1;
SELECT agents.agent_id, agents.name, agents.token_id, agents.group_name, agents.peer, agents.intake, agents.enrolled_us,
    agents.last_connected_us,
    agents.last_disconnected_us, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes, agents.engine,
    agents.labels, agents.quarantined_us, agents.quarantine_reason, agents.quarantine_kind, agents.left_us, agents.removed_us
FROM lull.agents AS agents
WHERE agents.peer = @P2;
SELECT agents.agent_id, agents.name, agents.token_id, agents.group_name, agents.peer, agents.intake, agents.enrolled_us,
    agents.last_connected_us,
    agents.last_disconnected_us, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes, agents.engine,
    agents.labels, agents.quarantined_us, agents.quarantine_reason, agents.quarantine_kind, agents.left_us, agents.removed_us
FROM OPENJSON(@P3) WITH (name nvarchar(256) '$.n') AS item
INNER JOIN lull.agents AS agents ON agents.name_folded = item.name COLLATE Latin1_General_100_BIN2;
