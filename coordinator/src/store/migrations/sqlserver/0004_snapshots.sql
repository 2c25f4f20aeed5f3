-- Functions that can be moved while they run: where their tasks go on, and which attempts did.

-- The size of the snapshot that the attempt went on from, and the running time that it held.
ALTER TABLE lull.attempts ADD
    build varchar(16) NOT NULL CONSTRAINT df_attempts_build DEFAULT 'plain'
        CONSTRAINT ck_attempts_build CHECK (build IN ('plain', 'migratable')),
    resumed_bytes bigint NULL CONSTRAINT ck_attempts_resumed_bytes CHECK (resumed_bytes >= 0),
    resumed_spent_us bigint NULL CONSTRAINT ck_attempts_resumed_spent CHECK (resumed_spent_us >= 0);

-- The newest snapshot of each open task that has one. Its bytes are with agents.
CREATE TABLE lull.snapshots (
    job_id     bigint NOT NULL,
    task_index int NOT NULL,
    digest     binary(32) NOT NULL,
    size_bytes bigint NOT NULL,
    spent_us   bigint NOT NULL,
    -- Who made it.
    agent_id   bigint NOT NULL,
    saved_us   bigint NOT NULL,
    CONSTRAINT pk_snapshots PRIMARY KEY (job_id, task_index),
    CONSTRAINT fk_snapshots_task FOREIGN KEY (job_id, task_index) REFERENCES lull.tasks (job_id, task_index),
    CONSTRAINT fk_snapshots_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_snapshots_size CHECK (size_bytes >= 0),
    CONSTRAINT ck_snapshots_spent CHECK (spent_us >= 0)
);
GO
-- Every time that a task went on on another machine, or on the same one after it had been evicted.
CREATE VIEW lull.move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    before_names.name AS from_agent, agents.name AS to_agent, earlier.outcome AS ended, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s,
    lull.utc(attempts.started_us) AS started_at
FROM lull.attempts AS attempts
INNER JOIN lull.attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
INNER JOIN lull.agents AS before_names ON before_names.agent_id = earlier.agent_id
WHERE attempts.resumed_bytes IS NOT NULL;
