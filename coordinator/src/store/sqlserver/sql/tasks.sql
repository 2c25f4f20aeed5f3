-- A page of started tasks, and what is needed to tell the others. @P1: job. @P2: limit. @P3: from. @P4: before. @P5: state.
SELECT jobs.task_count, jobs.expanded, jobs.stopping, jobs.stopped_us FROM lull.jobs AS jobs WHERE jobs.job_id = @P1;
SELECT TOP (@P2) tasks.job_id, tasks.task_index,
    CASE WHEN EXISTS (SELECT 1 FROM lull.answers AS a WHERE a.job_id = tasks.job_id AND a.task_index = tasks.task_index)
        THEN 'verifying' WHEN tasks.state = 'queued' AND snapshots.digest IS NOT NULL THEN 'moving' ELSE tasks.state END AS state,
    tasks.attempts, tasks.failures, tasks.not_before_us, tasks.ended_us,
    attempts.agent_id, agents.name AS agent_name, attempts.started_us, results.size_bytes AS output_bytes,
    CASE WHEN attempts.ended_us IS NULL THEN earlier.reason ELSE attempts.reason END AS reason
FROM lull.tasks AS tasks
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = COALESCE(results.number, (SELECT MAX(live.number) FROM lull.attempts AS live
        WHERE live.job_id = tasks.job_id AND live.task_index = tasks.task_index AND live.ended_us IS NULL), tasks.attempts)
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
LEFT JOIN lull.attempts AS earlier ON earlier.job_id = tasks.job_id AND earlier.task_index = tasks.task_index
    AND earlier.number = attempts.number - 1
LEFT JOIN lull.snapshots AS snapshots ON snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index
WHERE tasks.job_id = @P1 AND tasks.task_index >= @P3 AND tasks.task_index < @P4 AND (@P5 IS NULL
    OR @P5 = CASE WHEN EXISTS (SELECT 1 FROM lull.answers AS a WHERE a.job_id = tasks.job_id AND a.task_index = tasks.task_index)
        THEN 'verifying' WHEN tasks.state = 'queued' AND snapshots.digest IS NOT NULL THEN 'moving' ELSE tasks.state END)
ORDER BY tasks.task_index;
