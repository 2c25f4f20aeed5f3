-- A job without its open tasks, for a retry. @P1: job.
SELECT jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.seed, jobs.submitted_us,
    jobs.state, jobs.stopping, jobs.retry_from, jobs.retry_forgiven, jobs.expanded, jobs.succeeded, jobs.failed, jobs.cancelled,
    jobs.expired
FROM lull.jobs AS jobs
WHERE jobs.job_id = @P1;
