SELECT agents.agent_id, agents.name, agents.token_id, agents.group_name, agents.peer, agents.intake, agents.enrolled_us,
    agents.last_connected_us,
    agents.last_disconnected_us, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes, agents.engine,
    agents.labels, agents.quarantined_us, agents.quarantine_reason,
    agents.quarantine_kind, agents.left_us, agents.removed_us
FROM lull.agents AS agents
ORDER BY agents.agent_id;
