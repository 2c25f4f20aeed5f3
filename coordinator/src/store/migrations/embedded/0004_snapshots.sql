-- Functions that can be moved while they run: where their tasks go on, and which attempts did.

ALTER TABLE attempts ADD COLUMN
    build TEXT NOT NULL DEFAULT 'plain' CHECK (build IN ('plain', 'migratable'));
-- The size of the snapshot that the attempt went on from, and the running time that it held.
ALTER TABLE attempts ADD COLUMN resumed_bytes INTEGER CHECK (resumed_bytes >= 0);
ALTER TABLE attempts ADD COLUMN resumed_spent_us INTEGER CHECK (resumed_spent_us >= 0);

-- The newest snapshot of each open task that has one. Its bytes are with agents.
CREATE TABLE snapshots (
    job_id     INTEGER NOT NULL,
    task_index INTEGER NOT NULL,
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    spent_us   INTEGER NOT NULL CHECK (spent_us >= 0),
    -- Who made it.
    agent_id   INTEGER NOT NULL REFERENCES agents (agent_id),
    saved_us   INTEGER NOT NULL,
    PRIMARY KEY (job_id, task_index),
    FOREIGN KEY (job_id, task_index) REFERENCES tasks (job_id, task_index)
) STRICT, WITHOUT ROWID;

-- Every time that a task went on on another machine, or on the same one after it had been evicted.
CREATE VIEW move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    before_names.name AS from_agent, agents.name AS to_agent, earlier.outcome AS ended, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at
FROM attempts
JOIN attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id
JOIN agents AS before_names ON before_names.agent_id = earlier.agent_id
WHERE attempts.resumed_bytes IS NOT NULL;
