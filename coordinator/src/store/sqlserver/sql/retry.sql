-- A job and its started tasks that ended badly. @P1: job.
SELECT jobs.job_id, jobs.submitter, jobs.spec, jobs.version_name, jobs.seed, jobs.submitted_us, jobs.state, jobs.stopping,
    jobs.expanded, jobs.succeeded, jobs.failed, jobs.cancelled, jobs.expired
FROM lull.jobs AS jobs
WHERE jobs.job_id = @P1;
SELECT tasks.job_id, tasks.task_index, tasks.attempts, tasks.failures, tasks.agent_id, tasks.not_before_us, attempts.started_us
FROM lull.tasks AS tasks
LEFT JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = tasks.attempts AND attempts.ended_us IS NULL
WHERE tasks.ended_us IS NULL AND tasks.job_id = @P1
ORDER BY tasks.task_index;
SELECT tasks.task_index, tasks.attempts, tasks.state
FROM lull.tasks AS tasks
WHERE tasks.job_id = @P1 AND tasks.state IN ('failed', 'cancelled', 'expired')
ORDER BY tasks.task_index;
