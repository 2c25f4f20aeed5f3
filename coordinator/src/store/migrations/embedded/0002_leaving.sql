-- When a machine said last that it leaves the network, and when it was taken off the list: what it ran keeps its name.
ALTER TABLE agents ADD COLUMN left_us INTEGER;
ALTER TABLE agents ADD COLUMN removed_us INTEGER;

DROP VIEW agent_list;
CREATE VIEW agent_list AS
SELECT agents.agent_id, agents.name, agents.group_name, agents.intake, agents.version, agents.os, agents.arch, agents.cores,
    agents.memory_bytes, agents.labels, agents.results_refused,
    (SELECT count(*) FROM attempts INDEXED BY attempts_live
        WHERE attempts.ended_us IS NULL AND attempts.agent_id = agents.agent_id) AS attempts_live,
    agents.enrolled_us, agents.last_connected_us, agents.last_disconnected_us, agents.left_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.enrolled_us / 1000000.0, 'unixepoch') AS enrolled_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_connected_us / 1000000.0, 'unixepoch') AS last_connected_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_disconnected_us / 1000000.0, 'unixepoch') AS last_disconnected_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.left_us / 1000000.0, 'unixepoch') AS left_at
FROM agents
WHERE agents.removed_us IS NULL;

DROP VIEW task_list;
-- A task that has not ended and is with no agent is open: whether it is queued, or waits for a window, another job or a retry,
-- is known to the coordinator alone.
-- Tasks that were started at least once. The agent is that of the attempt that succeeded, or else of the newest.
CREATE VIEW task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter,
    CASE WHEN tasks.agent_id IS NULL AND tasks.ended_us IS NULL THEN 'open' ELSE tasks.state END AS state,
    tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    attempts.started_us, tasks.not_before_us, tasks.ended_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.not_before_us / 1000000.0, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM tasks
JOIN jobs ON jobs.job_id = tasks.job_id
LEFT JOIN results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = coalesce(results.number, tasks.attempts)
JOIN agents ON agents.agent_id = attempts.agent_id;
