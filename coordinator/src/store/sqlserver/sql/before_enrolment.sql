-- What is decided upon when a machine wants in. @P1: token. @P2: peer.
SELECT tokens.token_id, tokens.role, tokens.name, tokens.fingerprint, tokens.uses, tokens.uses_max, tokens.created_us,
    tokens.created_by, tokens.expires_us, tokens.revoked_us
FROM lull.tokens AS tokens
WHERE tokens.token_id = @P1;
SELECT agents.agent_id, agents.name, agents.peer, agents.intake, agents.enrolled_us, agents.last_connected_us,
    agents.last_disconnected_us, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes, agents.engine,
    agents.labels
FROM lull.agents AS agents
WHERE agents.peer = @P2;
SELECT agents.name FROM lull.agents AS agents;
