-- A page of jobs, newest first. @P1: limit. @P2: state. @P3: submitter. @P4: name. @P5: below this number. @P6: owner.
SELECT TOP (@P1) jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.submitted_us, jobs.ended_us, jobs.state,
    jobs.stopping, jobs.stopped_by, jobs.task_count, jobs.expanded, jobs.succeeded, jobs.failed, jobs.cancelled, jobs.expired,
    (SELECT COUNT(*) FROM lull.tasks AS t WHERE t.job_id = jobs.job_id AND t.ended_us IS NULL AND t.state = 'queued') AS queued,
    (SELECT COUNT(*) FROM lull.tasks AS t WHERE t.job_id = jobs.job_id AND t.ended_us IS NULL AND t.state = 'waiting') AS waiting,
    (SELECT COUNT(*) FROM lull.tasks AS t WHERE t.job_id = jobs.job_id AND t.ended_us IS NULL AND t.state = 'running') AS running,
    (SELECT COUNT(*) FROM lull.tasks AS t WHERE t.job_id = jobs.job_id AND t.ended_us IS NULL AND t.state = 'paused') AS paused,
    (SELECT COUNT(DISTINCT a.task_index) FROM lull.answers AS a INNER JOIN lull.tasks AS t ON t.job_id = a.job_id AND t.task_index = a.task_index
        WHERE a.job_id = jobs.job_id AND t.state = 'queued') AS verified_queued,
    (SELECT COUNT(DISTINCT a.task_index) FROM lull.answers AS a INNER JOIN lull.tasks AS t ON t.job_id = a.job_id AND t.task_index = a.task_index
        WHERE a.job_id = jobs.job_id AND t.state = 'waiting') AS verified_waiting,
    (SELECT COUNT(DISTINCT a.task_index) FROM lull.answers AS a INNER JOIN lull.tasks AS t ON t.job_id = a.job_id AND t.task_index = a.task_index
        WHERE a.job_id = jobs.job_id AND t.state = 'running') AS verified_running,
    (SELECT COUNT(DISTINCT a.task_index) FROM lull.answers AS a INNER JOIN lull.tasks AS t ON t.job_id = a.job_id AND t.task_index = a.task_index
        WHERE a.job_id = jobs.job_id AND t.state = 'paused') AS verified_paused,
    (SELECT COUNT(*) FROM lull.snapshots AS s INNER JOIN lull.tasks AS t ON t.job_id = s.job_id AND t.task_index = s.task_index
        WHERE s.job_id = jobs.job_id AND t.state = 'queued') AS moving
FROM lull.jobs AS jobs
WHERE (@P2 IS NULL OR jobs.state = @P2) AND (@P3 IS NULL OR jobs.submitter = @P3) AND (@P4 IS NULL OR jobs.name = @P4)
    AND jobs.job_id < @P5 AND (@P6 IS NULL OR jobs.owner_id = @P6)
ORDER BY jobs.job_id DESC;
