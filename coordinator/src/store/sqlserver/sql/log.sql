-- The log of one ended attempt, the newest if @P3 is NULL. @P1: job. @P2: index. @P3: number.
SELECT TOP (1) attempts.job_id, attempts.task_index, attempts.number, logs.log, logs.dropped_bytes
FROM lull.attempts AS attempts
LEFT JOIN lull.logs AS logs ON logs.job_id = attempts.job_id AND logs.task_index = attempts.task_index
    AND logs.number = attempts.number
WHERE attempts.job_id = @P1 AND attempts.task_index = @P2 AND attempts.number = COALESCE(@P3, attempts.number)
    AND attempts.ended_us IS NOT NULL
ORDER BY attempts.number DESC;
