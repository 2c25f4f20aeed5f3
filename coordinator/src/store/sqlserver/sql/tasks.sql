-- A page of started tasks, and what is needed to tell the others. @P1: job. @P2: limit. @P3: from. @P4: before. @P5: state.
-- Each state has an index of its own, and each part of the page stops at the limit, whatever the statistics say. A part that
-- is not asked for reads nothing: the server looks at a condition on parameters alone first.
SELECT jobs.task_count, jobs.expanded, jobs.stopping, jobs.stopped_us FROM lull.jobs AS jobs WHERE jobs.job_id = @P1;
SELECT tasks.job_id, tasks.task_index,
    CASE WHEN EXISTS (SELECT 1 FROM lull.answers AS a WHERE a.job_id = tasks.job_id AND a.task_index = tasks.task_index)
        THEN 'verifying' WHEN tasks.state = 'queued' AND snapshots.digest IS NOT NULL THEN 'moving' ELSE tasks.state END AS state,
    tasks.attempts, tasks.failures, tasks.not_before_us, tasks.ended_us,
    attempts.agent_id, agents.name AS agent_name, attempts.started_us, results.size_bytes AS output_bytes,
    CASE WHEN attempts.ended_us IS NULL THEN earlier.reason ELSE attempts.reason END AS reason
FROM (
    SELECT TOP (@P2) parts.task_index
    FROM (
        SELECT every.task_index FROM (
            SELECT TOP (@P2) t.task_index FROM lull.tasks AS t
            WHERE @P5 IS NULL AND t.job_id = @P1 AND t.task_index >= @P3 AND t.task_index < @P4
            ORDER BY t.task_index) AS every
        UNION ALL
        SELECT live.task_index FROM (
            SELECT TOP (@P2) t.task_index FROM lull.tasks AS t
            WHERE @P5 IN ('queued', 'waiting', 'running', 'paused') AND t.job_id = @P1 AND t.state = @P5 AND t.ended_us IS NULL
                AND t.task_index >= @P3 AND t.task_index < @P4
                AND NOT EXISTS (SELECT 1 FROM lull.answers AS a WHERE a.job_id = t.job_id AND a.task_index = t.task_index)
                AND (@P5 <> 'queued' OR NOT EXISTS (
                    SELECT 1 FROM lull.snapshots AS s WHERE s.job_id = t.job_id AND s.task_index = t.task_index))
            ORDER BY t.task_index) AS live
        UNION ALL
        SELECT moved.task_index FROM (
            SELECT TOP (@P2) s.task_index FROM lull.snapshots AS s
            INNER JOIN lull.tasks AS t ON t.job_id = s.job_id AND t.task_index = s.task_index
            WHERE @P5 = 'moving' AND s.job_id = @P1 AND t.state = 'queued' AND s.task_index >= @P3 AND s.task_index < @P4
                AND NOT EXISTS (SELECT 1 FROM lull.answers AS a WHERE a.job_id = s.job_id AND a.task_index = s.task_index)
            ORDER BY s.task_index) AS moved
        UNION ALL
        SELECT told.task_index FROM (
            SELECT DISTINCT TOP (@P2) a.task_index FROM lull.answers AS a
            WHERE @P5 = 'verifying' AND a.job_id = @P1 AND a.task_index >= @P3 AND a.task_index < @P4
            ORDER BY a.task_index) AS told
        UNION ALL
        SELECT done.task_index FROM (
            SELECT TOP (@P2) r.task_index FROM lull.results AS r
            WHERE @P5 = 'succeeded' AND r.job_id = @P1 AND r.task_index >= @P3 AND r.task_index < @P4
            ORDER BY r.task_index) AS done
        UNION ALL
        SELECT bad.task_index FROM (
            SELECT TOP (@P2) t.task_index FROM lull.tasks AS t
            WHERE @P5 IN ('failed', 'cancelled', 'expired') AND t.job_id = @P1 AND t.state = @P5
                AND t.ended_us IS NOT NULL AND t.state <> 'succeeded' AND t.task_index >= @P3 AND t.task_index < @P4
            ORDER BY t.task_index) AS bad
    ) AS parts
    ORDER BY parts.task_index
) AS page
INNER JOIN lull.tasks AS tasks ON tasks.job_id = @P1 AND tasks.task_index = page.task_index
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = COALESCE(results.number, (SELECT MAX(live.number) FROM lull.attempts AS live
        WHERE live.job_id = tasks.job_id AND live.task_index = tasks.task_index AND live.ended_us IS NULL), tasks.attempts)
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
LEFT JOIN lull.attempts AS earlier ON earlier.job_id = tasks.job_id AND earlier.task_index = tasks.task_index
    AND earlier.number = attempts.number - 1
LEFT JOIN lull.snapshots AS snapshots ON snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index
ORDER BY tasks.task_index;
