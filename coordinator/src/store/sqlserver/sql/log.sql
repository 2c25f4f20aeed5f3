-- The log of one ended attempt; if @P3 is NULL, of the one that succeeded, or else the newest. @P1: job. @P2: index. @P3: number.
SELECT TOP (1) attempts.job_id, attempts.task_index, attempts.number, logs.log, logs.dropped_bytes
FROM lull.attempts AS attempts
LEFT JOIN lull.logs AS logs ON logs.job_id = attempts.job_id AND logs.task_index = attempts.task_index
    AND logs.number = attempts.number
LEFT JOIN lull.results AS results ON results.job_id = attempts.job_id AND results.task_index = attempts.task_index
    AND results.number = attempts.number
WHERE attempts.job_id = @P1 AND attempts.task_index = @P2 AND attempts.number = COALESCE(@P3, attempts.number)
    AND attempts.ended_us IS NOT NULL
ORDER BY CASE WHEN results.number IS NULL THEN 1 ELSE 0 END, attempts.number DESC;
