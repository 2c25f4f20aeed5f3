-- Identity is a token's number, never its name; who was thrown out is counted; tokens are bound to machines.

-- How often a machine was thrown out or let in again: with the term it orders the lists of revocations.
ALTER TABLE lull.leader ADD revocations bigint NOT NULL CONSTRAINT df_leader_revocations DEFAULT 0;
GO
-- The token that submitted a job. Jobs from before are of the token with that name, if it was the only one; others are
-- nobody's, and only an administrator changes them.
ALTER TABLE lull.jobs ADD owner_id bigint NULL;
GO
UPDATE jobs
SET owner_id = named.token_id
FROM lull.jobs AS jobs
INNER JOIN (
    SELECT tokens.name, MAX(tokens.token_id) AS token_id
    FROM lull.tokens AS tokens
    WHERE tokens.role <> 'agent'
    GROUP BY tokens.name
    HAVING COUNT(*) = 1
) AS named ON named.name = jobs.submitter COLLATE DATABASE_DEFAULT;
GO
CREATE INDEX ix_jobs_owner ON lull.jobs (owner_id, job_id);
GO
-- A token that nobody named is called by its number, and of valid tokens no two are called alike.
UPDATE lull.tokens SET name = CONCAT('t', token_id)
WHERE name = role
    AND (role <> 'admin' OR token_id > (SELECT MIN(first.token_id) FROM lull.tokens AS first WHERE first.name = 'admin'));
GO
UPDATE tokens
SET name = CONCAT(tokens.name, '-t', tokens.token_id)
FROM lull.tokens AS tokens
WHERE tokens.revoked_us IS NULL AND EXISTS (
    SELECT 1 FROM lull.tokens AS other
    WHERE LOWER(other.name) = LOWER(tokens.name) AND other.token_id < tokens.token_id AND other.revoked_us IS NULL);
GO
CREATE UNIQUE INDEX uq_tokens_name ON lull.tokens (name) WHERE revoked_us IS NULL;
GO
-- Whom a join token admits: a JSON list of names and patterns, none: everybody; and the group that they get.
ALTER TABLE lull.tokens ADD bound_names nvarchar(max) NULL, bound_group nvarchar(256) NULL;
GO
ALTER TABLE lull.agents ADD group_name nvarchar(256) NULL;
GO
-- One more reason for which an agent gets no work.
ALTER TABLE lull.agents DROP CONSTRAINT ck_agents_quarantine_kind;
GO
ALTER TABLE lull.agents ADD CONSTRAINT ck_agents_quarantine_kind CHECK (quarantine_kind IS NULL
    OR (quarantined_us IS NOT NULL AND (quarantine_kind = 'output' OR quarantine_kind = 'cloned' OR quarantine_kind = 'overtime')));
