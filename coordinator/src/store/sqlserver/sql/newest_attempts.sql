-- Attempts of a job's tasks with the highest indexes. @P1: job. @P2: below which index. @P3: how many.
SELECT TOP (@P3) attempts.job_id, attempts.task_index, attempts.number, attempts.agent_id, agents.name AS agent_name,
    attempts.started_us, attempts.build, attempts.resumed_bytes, attempts.resumed_spent_us, attempts.cause,
    attempts.pause, attempts.ended_us, attempts.outcome, attempts.reason, attempts.failure, attempts.wall_us, attempts.cpu_us,
    attempts.memory_peak_bytes
FROM lull.attempts AS attempts
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
WHERE attempts.job_id = @P1 AND attempts.task_index < @P2
ORDER BY attempts.task_index DESC, attempts.number DESC;
