-- The newest rollout of each platform, and how far its agents are.
SELECT rollouts.number, rollouts.platform, rollouts.version, rollouts.package_digest, rollouts.package_bytes,
    rollouts.release_body, rollouts.release_sign, rollouts.expires_us, rollouts.plan_text, rollouts.waves_begun,
    rollouts.forgiven, rollouts.stopped, rollouts.begun_us, rollouts.begun_by
FROM lull.rollouts AS rollouts
WHERE NOT EXISTS (
    SELECT 1 FROM lull.rollouts AS newer WHERE newer.platform = rollouts.platform AND newer.number > rollouts.number)
ORDER BY rollouts.number;
SELECT rollout_agents.number, rollout_agents.agent_id, rollout_agents.step, rollout_agents.reason
FROM lull.rollout_agents AS rollout_agents
INNER JOIN lull.rollouts AS rollouts ON rollouts.number = rollout_agents.number
WHERE NOT EXISTS (
    SELECT 1 FROM lull.rollouts AS newer WHERE newer.platform = rollouts.platform AND newer.number > rollouts.number)
ORDER BY rollout_agents.number, rollout_agents.agent_id;
