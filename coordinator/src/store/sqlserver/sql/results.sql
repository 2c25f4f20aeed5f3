-- A page of outputs. @P1: job. @P2: limit. @P3: from. @P4: before.
SELECT TOP (@P2) results.job_id, results.task_index, results.number, results.size_bytes, results.content, results.blob_digest
FROM lull.results AS results
WHERE results.job_id = @P1 AND results.task_index >= @P3 AND results.task_index < @P4
ORDER BY results.task_index;
