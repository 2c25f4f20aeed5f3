-- Who was thrown out, and how often that changed: a row without a peer if it is nobody.
SELECT leader.revocations, agents.peer
FROM lull.leader AS leader
LEFT JOIN lull.agents AS agents ON agents.intake = 'revoked'
WHERE leader.leader_id = 1
ORDER BY agents.agent_id;
