-- Everything a scheduler needs. It changes nothing. Whoever loads leads and commits nothing meanwhile, so nothing of this
-- changes while it is read, unless a turn that was in doubt arrives now: then the leader's row at the end differs from that
-- at the beginning, and all is read again. @P1: hours of usage.
SET NOCOUNT ON;
SELECT leader.term, leader.holder, leader.lease_end_us, leader.writes, leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
SELECT CASE WHEN given.last_job > leader.last_job THEN given.last_job ELSE leader.last_job END AS last_job
FROM lull.leader AS leader
CROSS JOIN (SELECT COALESCE(MAX(jobs.job_id), 0) AS last_job FROM lull.jobs AS jobs) AS given
WHERE leader.leader_id = 1;
SELECT jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.seed, jobs.submitted_us, jobs.state, jobs.stopping,
    jobs.retry_from, jobs.retry_forgiven, jobs.expanded, jobs.succeeded, jobs.failed, jobs.cancelled, jobs.expired
FROM lull.jobs AS jobs
WHERE jobs.ended_us IS NULL
ORDER BY jobs.job_id;
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
WHERE tasks.ended_us IS NULL
ORDER BY tasks.job_id, tasks.task_index, attempts.number;
SELECT agents.agent_id, agents.name, agents.group_name, agents.intake, agents.quarantined_us, agents.quarantine_reason,
    agents.quarantine_kind
FROM lull.agents AS agents
ORDER BY agents.agent_id;
SELECT idle_hours.agent_id, idle_hours.shares, idle_hours.taken, idle_hours.clock_ahead_min
FROM lull.idle_hours AS idle_hours
ORDER BY idle_hours.agent_id;
SELECT jobs.owner_id, usage_hours.hour_number, SUM(usage_hours.slot_us) AS slot_us
FROM lull.usage_hours AS usage_hours
INNER JOIN lull.jobs AS jobs ON jobs.job_id = usage_hours.job_id
WHERE usage_hours.hour_number > (SELECT MAX(newest.hour_number) FROM lull.usage_hours AS newest) - @P1
GROUP BY jobs.owner_id, usage_hours.hour_number
ORDER BY jobs.owner_id, usage_hours.hour_number;
SELECT answers.job_id, answers.task_index, answers.number, answers.digest, attempts.agent_id
FROM lull.answers AS answers
INNER JOIN lull.attempts AS attempts ON attempts.job_id = answers.job_id AND attempts.task_index = answers.task_index
    AND attempts.number = answers.number
ORDER BY answers.job_id, answers.task_index, answers.number;
SELECT leader.term, leader.holder, leader.lease_end_us, leader.writes, leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
