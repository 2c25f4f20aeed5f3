-- Outputs that are compared before they count, and agents of which nothing is believed.

-- What agents brought for open tasks, by digest, until enough of them are alike.
CREATE TABLE answers (
    job_id     INTEGER NOT NULL,
    task_index INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (job_id, task_index, number),
    FOREIGN KEY (job_id, task_index, number) REFERENCES attempts (job_id, task_index, number)
) STRICT, WITHOUT ROWID;

-- Since when nothing of an agent is believed, and why.
ALTER TABLE agents ADD COLUMN quarantined_us INTEGER;
ALTER TABLE agents ADD COLUMN quarantine_reason TEXT CHECK ((quarantine_reason IS NULL) = (quarantined_us IS NULL));

CREATE VIEW quarantine_list AS
SELECT agents.agent_id, agents.name, agents.quarantine_reason AS reason,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.quarantined_us / 1000000.0, 'unixepoch') AS quarantined_at
FROM agents
WHERE agents.quarantined_us IS NOT NULL;
