-- Second copies of tasks: several attempts of one task may be live at once, each with another agent.

-- Why an attempt was started although nothing had gone wrong with those before it.
ALTER TABLE attempts ADD COLUMN cause TEXT;

DROP INDEX attempts_live;
-- Of each task at most one attempt is live with one agent.
CREATE UNIQUE INDEX attempts_live ON attempts (job_id, task_index, agent_id) WHERE ended_us IS NULL;

-- The agent is that of the attempt that succeeded, or else of the newest.
DROP VIEW task_list;
CREATE VIEW task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.not_before_us / 1000000.0, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM tasks
JOIN jobs ON jobs.job_id = tasks.job_id
LEFT JOIN results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = coalesce(results.number, tasks.attempts)
JOIN agents ON agents.agent_id = attempts.agent_id;

DROP VIEW agent_list;
CREATE VIEW agent_list AS
SELECT agents.agent_id, agents.name, agents.intake, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes,
    agents.labels, agents.results_refused,
    (SELECT count(*) FROM attempts WHERE attempts.ended_us IS NULL AND attempts.agent_id = agents.agent_id) AS attempts_live,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.enrolled_us / 1000000.0, 'unixepoch') AS enrolled_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_connected_us / 1000000.0, 'unixepoch') AS last_connected_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_disconnected_us / 1000000.0, 'unixepoch') AS last_disconnected_at
FROM agents;

DROP VIEW move_list;
-- A copy that began beside another is no move.
-- Every time that a task left a machine unfinished and was started on another one, or on the same one again: from its
-- snapshot or, if it has none, anew.
CREATE VIEW move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    from_agents.name AS from_agent, agents.name AS to_agent, earlier.outcome AS ended, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at
FROM attempts
JOIN attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id
JOIN agents AS from_agents ON from_agents.agent_id = earlier.agent_id
WHERE attempts.number > 1 AND earlier.ended_us <= attempts.started_us
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'));
