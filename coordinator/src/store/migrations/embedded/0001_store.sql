-- The first shape of the embedded store.
--
-- Times end in _us: microseconds since 1970 in UTC, because that is exact in every database; the views print them.
-- A task gets its row when it is first started. Those never started are counted by the job: they have an index from
-- jobs.expanded on, and are queued, or ended as jobs.stopping says.
-- Lists in checks have at most two members: SQLite builds a table for a longer one, for each row that is written.

CREATE TABLE leader (
    leader_id     INTEGER NOT NULL PRIMARY KEY CHECK (leader_id = 1),
    term        INTEGER NOT NULL CHECK (term >= 0),
    holder       TEXT,
    lease_end_us INTEGER NOT NULL
) STRICT;
INSERT INTO leader (leader_id, term, holder, lease_end_us) VALUES (1, 0, NULL, 0);

CREATE TABLE functions (
    function_id INTEGER NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE versions (
    version_id         INTEGER NOT NULL PRIMARY KEY,
    function_id        INTEGER NOT NULL REFERENCES functions (function_id),
    number             INTEGER NOT NULL CHECK (number >= 1),
    kind               TEXT NOT NULL CHECK (kind IN ('preview1', 'component')),
    module_digest      BLOB NOT NULL CHECK (length(module_digest) = 32),
    module_bytes       INTEGER NOT NULL CHECK (module_bytes >= 0),
    canonical_nans     INTEGER NOT NULL CHECK (canonical_nans IN (0, 1)),
    manifest           BLOB NOT NULL,
    manifest_signature BLOB NOT NULL,
    interface          TEXT NOT NULL,
    published_us       INTEGER NOT NULL,
    published_by       TEXT NOT NULL,
    removed_us         INTEGER,
    UNIQUE (function_id, number)
) STRICT;

-- Blobs that a version needs: its module and what was compiled from it.
CREATE TABLE version_blobs (
    version_id INTEGER NOT NULL REFERENCES versions (version_id),
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (version_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_blobs_digest ON version_blobs (digest);

CREATE TABLE tokens (
    token_id    INTEGER NOT NULL PRIMARY KEY,
    role        TEXT NOT NULL CHECK (role IN ('agent', 'viewer', 'submitter', 'publisher', 'admin')),
    name        TEXT NOT NULL,
    fingerprint BLOB NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    uses        INTEGER NOT NULL CHECK (uses >= 0),
    uses_max    INTEGER,
    created_us  INTEGER NOT NULL,
    created_by  TEXT NOT NULL,
    expires_us  INTEGER,
    revoked_us  INTEGER,
    CHECK (uses <= uses_max)
) STRICT;

CREATE TABLE agents (
    agent_id             INTEGER NOT NULL PRIMARY KEY,
    name                 TEXT NOT NULL UNIQUE,
    peer                 BLOB NOT NULL UNIQUE,
    intake               TEXT NOT NULL CHECK (intake IN ('open', 'cordoned') OR intake IN ('draining', 'revoked')),
    token_id             INTEGER NOT NULL REFERENCES tokens (token_id),
    enrolled_us          INTEGER NOT NULL,
    last_connected_us    INTEGER,
    last_disconnected_us INTEGER,
    version              TEXT,
    os                   TEXT,
    arch                 TEXT,
    cores                INTEGER,
    memory_bytes         INTEGER,
    engine               TEXT,
    labels               TEXT NOT NULL,
    results_refused      INTEGER NOT NULL CHECK (results_refused >= 0),
    CHECK ((version IS NULL) = (os IS NULL) AND (os IS NULL) = (arch IS NULL) AND (os IS NULL) = (cores IS NULL)
        AND (os IS NULL) = (memory_bytes IS NULL) AND (os IS NULL) = (engine IS NULL))
) STRICT;

CREATE TABLE jobs (
    job_id       INTEGER NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    submitter    TEXT NOT NULL,
    version_id   INTEGER NOT NULL REFERENCES versions (version_id),
    version_name TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('active', 'succeeded') OR state IN ('failed', 'cancelled') OR state = 'expired'),
    stopping     TEXT CHECK (stopping IN ('succeeded', 'failed') OR stopping IN ('cancelled', 'expired')),
    stopped_by   TEXT,
    stopped_us   INTEGER,
    submitted_us INTEGER NOT NULL,
    finish_by_us INTEGER,
    ended_us     INTEGER,
    seed         INTEGER NOT NULL,
    -- The digest of submitter and idempotency key.
    key_digest   BLOB UNIQUE CHECK (length(key_digest) = 32),
    -- The input pack, if the inputs are one.
    pack_digest  BLOB CHECK (length(pack_digest) = 32),
    spec         TEXT NOT NULL,
    task_count   INTEGER NOT NULL CHECK (task_count >= 0),
    expanded     INTEGER NOT NULL CHECK (expanded BETWEEN 0 AND task_count),
    succeeded    INTEGER NOT NULL CHECK (succeeded >= 0),
    failed       INTEGER NOT NULL CHECK (failed >= 0),
    cancelled    INTEGER NOT NULL CHECK (cancelled >= 0),
    expired      INTEGER NOT NULL CHECK (expired >= 0),
    CHECK ((state = 'active') = (ended_us IS NULL)),
    CHECK ((stopping IS NULL) = (stopped_by IS NULL) AND (stopping IS NULL) = (stopped_us IS NULL)),
    CHECK (succeeded + failed + cancelled + expired <= expanded),
    -- A job cannot end while a task of it is open.
    CHECK (state = 'active' OR (succeeded + failed + cancelled + expired = expanded
        AND (expanded = task_count OR stopping IS NOT NULL)))
) STRICT;
CREATE INDEX jobs_active ON jobs (job_id) WHERE ended_us IS NULL;
CREATE INDEX jobs_submitter ON jobs (submitter, job_id);
CREATE INDEX jobs_version ON jobs (version_id);
CREATE INDEX jobs_pack ON jobs (pack_digest) WHERE pack_digest IS NOT NULL;

CREATE TABLE tasks (
    job_id        INTEGER NOT NULL REFERENCES jobs (job_id),
    task_index    INTEGER NOT NULL CHECK (task_index >= 0),
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL CHECK (attempts >= 1),
    failures      INTEGER NOT NULL CHECK (failures BETWEEN 0 AND attempts),
    agent_id      INTEGER REFERENCES agents (agent_id),
    not_before_us INTEGER,
    ended_us      INTEGER,
    PRIMARY KEY (job_id, task_index),
    -- A task is with an agent, or it waits, or it has ended.
    CHECK (CASE
        WHEN agent_id IS NOT NULL THEN not_before_us IS NULL AND ended_us IS NULL AND state IN ('running', 'paused')
        WHEN ended_us IS NULL THEN not_before_us IS NOT NULL AND state IN ('queued', 'waiting')
        ELSE not_before_us IS NULL AND (state IN ('succeeded', 'failed') OR state IN ('cancelled', 'expired'))
    END)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_open ON tasks (job_id, state) WHERE ended_us IS NULL;

CREATE TABLE attempts (
    job_id            INTEGER NOT NULL,
    task_index        INTEGER NOT NULL,
    number            INTEGER NOT NULL CHECK (number >= 1),
    agent_id          INTEGER NOT NULL REFERENCES agents (agent_id),
    started_us        INTEGER NOT NULL,
    -- As JSON, while it is paused.
    pause             TEXT,
    ended_us          INTEGER,
    outcome           TEXT,
    reason            TEXT,
    failure_kind      TEXT,
    failure           TEXT,
    wall_us           INTEGER,
    cpu_us            INTEGER,
    memory_peak_bytes INTEGER,
    PRIMARY KEY (job_id, task_index, number),
    FOREIGN KEY (job_id, task_index) REFERENCES tasks (job_id, task_index),
    CHECK (outcome IN ('succeeded', 'failed') OR outcome IN ('evicted', 'recalled') OR outcome IN ('lost', 'cancelled')),
    CHECK ((ended_us IS NULL) = (outcome IS NULL) AND (ended_us IS NULL) = (wall_us IS NULL)
        AND (ended_us IS NULL) = (cpu_us IS NULL) AND (ended_us IS NULL) = (memory_peak_bytes IS NULL)),
    CHECK (ended_us IS NULL OR pause IS NULL),
    CHECK ((failure IS NULL) = (failure_kind IS NULL) AND (failure IS NULL OR ended_us IS NOT NULL))
) STRICT, WITHOUT ROWID;
-- Of each task at most one attempt is live.
CREATE UNIQUE INDEX attempts_live ON attempts (job_id, task_index) WHERE ended_us IS NULL;

-- A task's output: bytes here or a blob. At most one, so a task is completed once.
CREATE TABLE results (
    job_id      INTEGER NOT NULL,
    task_index  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    size_bytes  INTEGER NOT NULL CHECK (size_bytes >= 0),
    output      BLOB,
    blob_digest BLOB CHECK (length(blob_digest) = 32),
    PRIMARY KEY (job_id, task_index),
    FOREIGN KEY (job_id, task_index, number) REFERENCES attempts (job_id, task_index, number),
    CHECK ((output IS NULL) <> (blob_digest IS NULL)),
    CHECK (output IS NULL OR length(output) = size_bytes)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_blob ON results (blob_digest) WHERE blob_digest IS NOT NULL;

CREATE TABLE logs (
    job_id        INTEGER NOT NULL,
    task_index    INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    log           BLOB NOT NULL,
    dropped_bytes INTEGER NOT NULL CHECK (dropped_bytes >= 0),
    PRIMARY KEY (job_id, task_index, number),
    FOREIGN KEY (job_id, task_index, number) REFERENCES attempts (job_id, task_index, number)
) STRICT, WITHOUT ROWID;

-- Slot time by job and hour since 1970, counted when an attempt ends: fair share after a restart, and reports.
CREATE TABLE usage_hours (
    hour    INTEGER NOT NULL,
    job_id  INTEGER NOT NULL REFERENCES jobs (job_id),
    slot_us INTEGER NOT NULL CHECK (slot_us >= 0),
    PRIMARY KEY (hour, job_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    audit_id INTEGER NOT NULL PRIMARY KEY,
    at_us    INTEGER NOT NULL,
    by_whom  TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL
) STRICT;

-- A blob without a digest is still being written.
CREATE TABLE blobs (
    blob_id       INTEGER NOT NULL PRIMARY KEY,
    digest        BLOB UNIQUE CHECK (length(digest) = 32),
    size_bytes    INTEGER CHECK (size_bytes >= 0),
    outline       BLOB,
    touched_us    INTEGER NOT NULL,
    -- Whether the blobs that this one names, as an input pack, are in blob_links.
    links_read    INTEGER NOT NULL CHECK (links_read IN (0, 1)),
    CHECK ((digest IS NULL) = (size_bytes IS NULL) AND (digest IS NULL) = (outline IS NULL))
) STRICT;

CREATE TABLE blob_pieces (
    blob_id     INTEGER NOT NULL REFERENCES blobs (blob_id),
    piece_index INTEGER NOT NULL CHECK (piece_index >= 0),
    bytes       BLOB NOT NULL,
    UNIQUE (blob_id, piece_index)
) STRICT;

-- Blobs that an input pack names.
CREATE TABLE blob_links (
    pack_id INTEGER NOT NULL REFERENCES blobs (blob_id),
    digest  BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (pack_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_links_digest ON blob_links (digest);

-- For people ---------------------------------------------------------------------------------------------------------

CREATE VIEW job_progress AS
SELECT jobs.job_id, jobs.name, jobs.submitter, jobs.version_name, jobs.priority, jobs.state, jobs.stopping, jobs.task_count,
    CASE WHEN jobs.stopping IS NULL THEN jobs.task_count - jobs.expanded ELSE 0 END AS never_started,
    jobs.expanded - jobs.succeeded - jobs.failed - jobs.cancelled - jobs.expired AS open_tasks,
    jobs.succeeded, jobs.failed,
    jobs.cancelled + CASE WHEN jobs.stopping <> 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS cancelled,
    jobs.expired + CASE WHEN jobs.stopping = 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS expired,
    strftime('%Y-%m-%dT%H:%M:%fZ', jobs.submitted_us / 1000000.0, 'unixepoch') AS submitted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', jobs.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM jobs;

CREATE VIEW attempt_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    attempts.agent_id, agents.name AS agent_name, coalesce(attempts.outcome, 'live') AS outcome,
    attempts.reason, attempts.failure_kind, attempts.pause,
    attempts.wall_us / 1000000.0 AS wall_s, attempts.cpu_us / 1000000.0 AS cpu_s, attempts.memory_peak_bytes,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM attempts
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id;

-- Tasks that were started at least once.
CREATE VIEW task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.not_before_us / 1000000.0, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM tasks
JOIN jobs ON jobs.job_id = tasks.job_id
JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index AND attempts.number = tasks.attempts
JOIN agents ON agents.agent_id = attempts.agent_id
LEFT JOIN results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index;

CREATE VIEW failures AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter, jobs.version_name,
    agents.name AS agent_name, attempts.failure_kind, attempts.reason,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM attempts
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id
WHERE attempts.outcome = 'failed';

CREATE VIEW agent_list AS
SELECT agents.agent_id, agents.name, agents.intake, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes,
    agents.labels, agents.results_refused,
    (SELECT count(*) FROM tasks WHERE tasks.ended_us IS NULL AND tasks.agent_id = agents.agent_id) AS attempts_live,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.enrolled_us / 1000000.0, 'unixepoch') AS enrolled_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_connected_us / 1000000.0, 'unixepoch') AS last_connected_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_disconnected_us / 1000000.0, 'unixepoch') AS last_disconnected_at
FROM agents;

-- What each agent gave, by the day on which its attempts ended.
CREATE VIEW agent_hours AS
SELECT agents.agent_id, agents.name AS agent_name,
    strftime('%Y-%m-%d', attempts.ended_us / 1000000, 'unixepoch') AS day,
    count(*) AS attempts,
    sum(CASE WHEN attempts.outcome = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
    sum(CASE WHEN attempts.outcome = 'failed' THEN 1 ELSE 0 END) AS failed,
    sum(CASE WHEN attempts.outcome IN ('evicted', 'recalled', 'lost') THEN 1 ELSE 0 END) AS moved,
    sum(attempts.ended_us - attempts.started_us) / 3600000000.0 AS slot_hours,
    sum(attempts.cpu_us) / 3600000000.0 AS cpu_hours
FROM attempts
JOIN agents ON agents.agent_id = attempts.agent_id
WHERE attempts.ended_us IS NOT NULL
GROUP BY agents.agent_id, agents.name, strftime('%Y-%m-%d', attempts.ended_us / 1000000, 'unixepoch');

CREATE VIEW daily_usage AS
SELECT jobs.submitter, strftime('%Y-%m-%d', usage_hours.hour * 3600, 'unixepoch') AS day,
    count(DISTINCT jobs.job_id) AS jobs, sum(usage_hours.slot_us) / 3600000000.0 AS slot_hours
FROM usage_hours
JOIN jobs ON jobs.job_id = usage_hours.job_id
GROUP BY jobs.submitter, strftime('%Y-%m-%d', usage_hours.hour * 3600, 'unixepoch');

CREATE VIEW version_list AS
SELECT versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_bytes,
    lower(hex(versions.module_digest)) AS module_digest, versions.published_by,
    strftime('%Y-%m-%dT%H:%M:%fZ', versions.published_us / 1000000.0, 'unixepoch') AS published_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', versions.removed_us / 1000000.0, 'unixepoch') AS removed_at
FROM versions
JOIN functions ON functions.function_id = versions.function_id;

CREATE VIEW audit_list AS
SELECT audit.audit_id, strftime('%Y-%m-%dT%H:%M:%fZ', audit.at_us / 1000000.0, 'unixepoch') AS happened_at,
    audit.by_whom, audit.action, audit.subject, audit.detail
FROM audit;
