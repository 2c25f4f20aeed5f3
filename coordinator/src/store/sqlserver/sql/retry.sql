-- A job and its started tasks that ended badly. @P1: job.
SELECT jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.seed, jobs.submitted_us, jobs.state, jobs.stopping,
    jobs.expanded, jobs.succeeded, jobs.failed, jobs.cancelled, jobs.expired
FROM lull.jobs AS jobs
WHERE jobs.job_id = @P1;
SELECT tasks.job_id, tasks.task_index, tasks.attempts, tasks.failures, tasks.agent_id, tasks.not_before_us,
    (SELECT COUNT(*) FROM lull.attempts AS gone
        WHERE gone.job_id = tasks.job_id AND gone.task_index = tasks.task_index AND gone.outcome = 'lost'
            AND gone.number > COALESCE((SELECT MAX(last.number) FROM lull.attempts AS last
                WHERE last.job_id = tasks.job_id AND last.task_index = tasks.task_index AND last.outcome = 'lost'
                    AND last.failure_kind IS NOT NULL), 0)) AS lost,
    attempts.number, attempts.agent_id AS attempt_agent, attempts.started_us, attempts.resumed_spent_us,
    attempts.build, attempts.cause,
    snapshots.digest AS snapshot_digest, snapshots.size_bytes AS snapshot_bytes, snapshots.spent_us AS snapshot_spent_us,
    snapshots.agent_id AS snapshot_agent
FROM lull.tasks AS tasks
LEFT JOIN lull.snapshots AS snapshots ON snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index
LEFT JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.ended_us IS NULL
WHERE tasks.ended_us IS NULL AND tasks.job_id = @P1
ORDER BY tasks.task_index, attempts.number;
SELECT tasks.task_index, tasks.attempts, tasks.state,
    CASE WHEN tasks.state = 'failed' THEN attempts.agent_id END AS failed_at
FROM lull.tasks AS tasks
LEFT JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = tasks.attempts AND attempts.outcome = 'failed'
WHERE tasks.job_id = @P1 AND tasks.state IN ('failed', 'cancelled', 'expired') AND tasks.ended_us IS NOT NULL
    AND tasks.state <> 'succeeded'
ORDER BY tasks.task_index;
SELECT answers.job_id, answers.task_index, answers.number, answers.digest, attempts.agent_id
FROM lull.answers AS answers
INNER JOIN lull.attempts AS attempts ON attempts.job_id = answers.job_id AND attempts.task_index = answers.task_index
    AND attempts.number = answers.number
WHERE answers.job_id = @P1
ORDER BY answers.job_id, answers.task_index, answers.number;
