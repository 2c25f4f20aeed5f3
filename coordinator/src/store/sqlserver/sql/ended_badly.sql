-- Started tasks of a job that ended badly, from one on. Each state is a range of the index: as many are read of each as there
-- may be of all. @P1: job, @P2: from this index on, @P3: at most so many.
SELECT TOP (@P3) bad.task_index, bad.attempts, bad.state,
    CASE WHEN bad.state = 'failed' THEN attempts.agent_id END AS failed_at
FROM (
    SELECT failed.job_id, failed.task_index, failed.attempts, failed.state
    FROM (
        SELECT TOP (@P3) tasks.job_id, tasks.task_index, tasks.attempts, tasks.state
        FROM lull.tasks AS tasks
        WHERE tasks.job_id = @P1 AND tasks.state = 'failed' AND tasks.task_index >= @P2 AND tasks.ended_us IS NOT NULL
            AND tasks.state <> 'succeeded'
        ORDER BY tasks.task_index) AS failed
    UNION ALL
    SELECT cancelled.job_id, cancelled.task_index, cancelled.attempts, cancelled.state
    FROM (
        SELECT TOP (@P3) tasks.job_id, tasks.task_index, tasks.attempts, tasks.state
        FROM lull.tasks AS tasks
        WHERE tasks.job_id = @P1 AND tasks.state = 'cancelled' AND tasks.task_index >= @P2 AND tasks.ended_us IS NOT NULL
            AND tasks.state <> 'succeeded'
        ORDER BY tasks.task_index) AS cancelled
    UNION ALL
    SELECT expired.job_id, expired.task_index, expired.attempts, expired.state
    FROM (
        SELECT TOP (@P3) tasks.job_id, tasks.task_index, tasks.attempts, tasks.state
        FROM lull.tasks AS tasks
        WHERE tasks.job_id = @P1 AND tasks.state = 'expired' AND tasks.task_index >= @P2 AND tasks.ended_us IS NOT NULL
            AND tasks.state <> 'succeeded'
        ORDER BY tasks.task_index) AS expired
) AS bad
LEFT JOIN lull.attempts AS attempts ON attempts.job_id = bad.job_id AND attempts.task_index = bad.task_index
    AND attempts.number = bad.attempts AND attempts.outcome = 'failed'
ORDER BY bad.task_index;
