-- Who was thrown out, and how often that changed: a row without a peer if it is nobody.
SELECT reign.revocations, agents.peer
FROM lull.reign AS reign
LEFT JOIN lull.agents AS agents ON agents.intake = 'revoked'
WHERE reign.reign_id = 1
ORDER BY agents.agent_id;
