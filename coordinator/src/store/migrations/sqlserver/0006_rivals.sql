-- Second copies of tasks: several attempts of one task may be live at once, each with another agent.

-- Why an attempt was started although nothing had gone wrong with those before it.
ALTER TABLE lull.attempts ADD cause nvarchar(2000) NULL;
GO
DROP INDEX uq_attempts_live ON lull.attempts;
GO
-- Of each task at most one attempt is live with one agent.
CREATE UNIQUE INDEX uq_attempts_live ON lull.attempts (job_id, task_index, agent_id) WHERE ended_us IS NULL;
GO
DROP VIEW lull.task_list;
GO
-- The agent is that of the attempt that succeeded, or else of the newest.
CREATE VIEW lull.task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    lull.utc(attempts.started_us) AS started_at,
    lull.utc(tasks.not_before_us) AS not_before,
    lull.utc(tasks.ended_us) AS ended_at
FROM lull.tasks AS tasks
INNER JOIN lull.jobs AS jobs ON jobs.job_id = tasks.job_id
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = COALESCE(results.number, tasks.attempts)
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id;
GO
DROP VIEW lull.agent_list;
GO
CREATE VIEW lull.agent_list AS
SELECT agents.agent_id, agents.name, agents.intake, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes,
    agents.labels, agents.results_refused,
    (SELECT COUNT(*) FROM lull.attempts AS live WHERE live.ended_us IS NULL AND live.agent_id = agents.agent_id) AS attempts_live,
    lull.utc(agents.enrolled_us) AS enrolled_at,
    lull.utc(agents.last_connected_us) AS last_connected_at,
    lull.utc(agents.last_disconnected_us) AS last_disconnected_at
FROM lull.agents AS agents;
GO
DROP VIEW lull.move_list;
GO
-- A copy that began beside another is no move.
-- Every time that a task left a machine unfinished and was started on another one, or on the same one again: from its
-- snapshot or, if it has none, anew.
CREATE VIEW lull.move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    from_agents.name AS from_agent, agents.name AS to_agent, earlier.outcome AS ended, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s,
    lull.utc(attempts.started_us) AS started_at
FROM lull.attempts AS attempts
INNER JOIN lull.attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
INNER JOIN lull.agents AS from_agents ON from_agents.agent_id = earlier.agent_id
WHERE attempts.number > 1 AND earlier.ended_us <= attempts.started_us
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'));
