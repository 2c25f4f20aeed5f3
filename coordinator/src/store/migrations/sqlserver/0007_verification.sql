-- Outputs that are compared before they count, and agents of which nothing is believed.

-- What agents brought for open tasks, by digest, until enough of them are alike.
CREATE TABLE lull.answers (
    job_id     bigint NOT NULL,
    task_index int NOT NULL,
    number     int NOT NULL,
    digest     binary(32) NOT NULL,
    CONSTRAINT pk_answers PRIMARY KEY (job_id, task_index, number),
    CONSTRAINT fk_answers_attempt FOREIGN KEY (job_id, task_index, number)
        REFERENCES lull.attempts (job_id, task_index, number)
);
GO
-- Since when nothing of an agent is believed, and why.
ALTER TABLE lull.agents ADD
    quarantined_us bigint NULL,
    quarantine_reason nvarchar(2000) NULL,
    CONSTRAINT ck_agents_quarantine CHECK ((quarantined_us IS NULL AND quarantine_reason IS NULL)
        OR (quarantined_us IS NOT NULL AND quarantine_reason IS NOT NULL));
GO
CREATE VIEW lull.quarantine_list AS
SELECT agents.agent_id, agents.name, agents.quarantine_reason AS reason,
    lull.utc(agents.quarantined_us) AS quarantined_at
FROM lull.agents AS agents
WHERE agents.quarantined_us IS NOT NULL;
