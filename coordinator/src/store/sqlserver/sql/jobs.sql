-- A page of jobs, newest first, each with its open tasks counted by state. @P1: limit. @P2: state. @P3: submitter. @P4: name.
-- @P5: below this number. @P6: owner. @P7: this one alone.
-- Compiled anew for the values that are given, so that an index is chosen by them:
-- https://learn.microsoft.com/sql/t-sql/queries/hints-transact-sql-query#recompile
SELECT jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.submitted_us,
    jobs.ended_us, jobs.state, jobs.stopping, jobs.stopped_by, jobs.task_count, jobs.expanded, jobs.succeeded, jobs.failed,
    jobs.cancelled, jobs.expired,
    COALESCE(open_tasks.queued, 0) AS queued, COALESCE(open_tasks.waiting, 0) AS waiting,
    COALESCE(open_tasks.running, 0) AS running, COALESCE(open_tasks.paused, 0) AS paused,
    COALESCE(verified.queued, 0) AS verified_queued, COALESCE(verified.waiting, 0) AS verified_waiting,
    COALESCE(verified.running, 0) AS verified_running, COALESCE(verified.paused, 0) AS verified_paused,
    COALESCE(moved.moving, 0) AS moving
FROM (
    SELECT TOP (@P1) found.job_id
    FROM lull.jobs AS found
    WHERE (@P2 IS NULL OR found.state = @P2) AND (@P3 IS NULL OR found.submitter = @P3) AND (@P4 IS NULL OR found.name = @P4)
        AND found.job_id < @P5 AND (@P6 IS NULL OR found.owner_id = @P6) AND (@P7 IS NULL OR found.job_id = @P7)
    ORDER BY found.job_id DESC
) AS page
INNER JOIN lull.jobs AS jobs ON jobs.job_id = page.job_id
OUTER APPLY (
    SELECT SUM(CASE WHEN tasks.state = 'queued' THEN 1 ELSE 0 END) AS queued,
        SUM(CASE WHEN tasks.state = 'waiting' THEN 1 ELSE 0 END) AS waiting,
        SUM(CASE WHEN tasks.state = 'running' THEN 1 ELSE 0 END) AS running,
        SUM(CASE WHEN tasks.state = 'paused' THEN 1 ELSE 0 END) AS paused
    FROM lull.tasks AS tasks
    WHERE tasks.job_id = page.job_id AND tasks.ended_us IS NULL
) AS open_tasks
OUTER APPLY (
    SELECT SUM(CASE WHEN tasks.state = 'queued' THEN 1 ELSE 0 END) AS queued,
        SUM(CASE WHEN tasks.state = 'waiting' THEN 1 ELSE 0 END) AS waiting,
        SUM(CASE WHEN tasks.state = 'running' THEN 1 ELSE 0 END) AS running,
        SUM(CASE WHEN tasks.state = 'paused' THEN 1 ELSE 0 END) AS paused
    FROM (SELECT DISTINCT answers.task_index FROM lull.answers AS answers WHERE answers.job_id = page.job_id) AS told
    INNER JOIN lull.tasks AS tasks ON tasks.job_id = page.job_id AND tasks.task_index = told.task_index
) AS verified
OUTER APPLY (
    SELECT COUNT(*) AS moving
    FROM lull.snapshots AS snapshots
    INNER JOIN lull.tasks AS tasks ON tasks.job_id = snapshots.job_id AND tasks.task_index = snapshots.task_index
    WHERE snapshots.job_id = page.job_id AND tasks.state = 'queued'
) AS moved
ORDER BY jobs.job_id DESC
OPTION (RECOMPILE);
