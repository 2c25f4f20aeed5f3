-- Moves are listed with their job.

-- Few attempts are a task's second or later one; those of a job that are can be listed without looking at the others.
CREATE INDEX ix_attempts_again ON lull.attempts (job_id, started_us) WHERE number > 1;

DROP VIEW lull.move_list;
GO
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
WHERE attempts.number > 1 AND earlier.ended_us IS NOT NULL
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'));
