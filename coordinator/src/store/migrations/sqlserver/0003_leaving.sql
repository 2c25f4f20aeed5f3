-- When a machine said last that it leaves the network, and when it was taken off the list: what it ran keeps its name.
ALTER TABLE lull.agents ADD left_us bigint NULL, removed_us bigint NULL;
GO
DROP VIEW lull.agent_list;
GO
CREATE VIEW lull.agent_list AS
SELECT agents.agent_id, agents.name, agents.group_name, agents.intake, agents.version, agents.os, agents.arch, agents.cores,
    agents.memory_bytes, agents.labels, agents.results_refused,
    (SELECT COUNT(*) FROM lull.attempts AS live WHERE live.ended_us IS NULL AND live.agent_id = agents.agent_id) AS attempts_live,
    agents.enrolled_us, agents.last_connected_us, agents.last_disconnected_us, agents.left_us,
    enrolled.moment AS enrolled_at, connected.moment AS last_connected_at, disconnected.moment AS last_disconnected_at,
    gone.moment AS left_at
FROM lull.agents AS agents
CROSS APPLY lull.utc(agents.enrolled_us) AS enrolled
CROSS APPLY lull.utc(agents.last_connected_us) AS connected
CROSS APPLY lull.utc(agents.last_disconnected_us) AS disconnected
CROSS APPLY lull.utc(agents.left_us) AS gone
WHERE agents.removed_us IS NULL;
GO
DROP VIEW lull.task_list;
GO
-- A task that has not ended and is with no agent is open: whether it is queued, or waits for a window, another job or a retry,
-- is known to the coordinator alone.
-- Tasks that were started at least once. The agent is that of the attempt that succeeded, or else of the newest.
CREATE VIEW lull.task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter,
    CASE WHEN tasks.agent_id IS NULL AND tasks.ended_us IS NULL THEN 'open' ELSE tasks.state END AS state,
    tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    attempts.started_us, tasks.not_before_us, tasks.ended_us,
    started.moment AS started_at, waited.moment AS not_before, ended.moment AS ended_at
FROM lull.tasks AS tasks
INNER JOIN lull.jobs AS jobs ON jobs.job_id = tasks.job_id
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = COALESCE(results.number, tasks.attempts)
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
CROSS APPLY lull.utc(attempts.started_us) AS started
CROSS APPLY lull.utc(tasks.not_before_us) AS waited
CROSS APPLY lull.utc(tasks.ended_us) AS ended;
