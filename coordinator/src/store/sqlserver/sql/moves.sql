-- Tasks of a job that left a machine unfinished and were started again, the newest first. @P1: job. @P2: how many.
SELECT TOP (@P2) attempts.job_id, attempts.task_index, attempts.number, attempts.agent_id, agents.name AS agent_name,
    attempts.started_us, attempts.resumed_bytes, attempts.resumed_spent_us, earlier.agent_id AS from_id,
    from_agents.name AS from_name, earlier.outcome, earlier.reason, earlier.ended_us
FROM lull.attempts AS attempts
INNER JOIN lull.attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
INNER JOIN lull.agents AS from_agents ON from_agents.agent_id = earlier.agent_id
WHERE attempts.job_id = @P1 AND attempts.number > 1 AND earlier.ended_us <= attempts.started_us
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'))
ORDER BY attempts.started_us DESC, attempts.task_index DESC, attempts.number DESC;
