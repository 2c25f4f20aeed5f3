-- Identity is a token's number, never its name; who was thrown out is counted; tokens are bound to machines.

-- How often a machine was thrown out or let in again: with the term it orders the lists of revocations.
ALTER TABLE leader ADD COLUMN revocations INTEGER NOT NULL DEFAULT 0 CHECK (revocations >= 0);

-- The token that submitted a job. Jobs from before are of the token with that name, if it was the only one; others are
-- nobody's, and only an administrator changes them.
ALTER TABLE jobs ADD COLUMN owner_id INTEGER;
UPDATE jobs SET owner_id = (
    SELECT max(tokens.token_id) FROM tokens WHERE tokens.name = jobs.submitter AND tokens.role <> 'agent' HAVING count(*) = 1);
CREATE INDEX jobs_owner ON jobs (owner_id, job_id);

-- A token that nobody named is called by its number, and of valid tokens no two are called alike.
UPDATE tokens SET name = 't' || token_id
WHERE name = role AND (role <> 'admin' OR token_id > (SELECT min(first.token_id) FROM tokens AS first WHERE first.name = 'admin'));
UPDATE tokens SET name = name || '-t' || token_id
WHERE revoked_us IS NULL AND EXISTS (
    SELECT 1 FROM tokens AS other
    WHERE lower(other.name) = lower(tokens.name) AND other.token_id < tokens.token_id AND other.revoked_us IS NULL);
CREATE UNIQUE INDEX tokens_name ON tokens (lower(name)) WHERE revoked_us IS NULL;

-- Whom a join token admits: a JSON list of names and patterns, none: everybody; and the group that they get.
ALTER TABLE tokens ADD COLUMN bound_names TEXT;
ALTER TABLE tokens ADD COLUMN bound_group TEXT;
ALTER TABLE agents ADD COLUMN group_name TEXT;

-- One more reason for which an agent gets no work.
ALTER TABLE agents RENAME COLUMN quarantine_kind TO quarantine_kind_before;
ALTER TABLE agents ADD COLUMN quarantine_kind TEXT
    CHECK (quarantine_kind IN ('output', 'cloned', 'overtime') AND quarantined_us IS NOT NULL OR quarantine_kind IS NULL);
UPDATE agents SET quarantine_kind = quarantine_kind_before;
ALTER TABLE agents DROP COLUMN quarantine_kind_before;
