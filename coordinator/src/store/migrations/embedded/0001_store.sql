-- The embedded store.
--
-- Times end in _us: microseconds since 1970 in UTC, because that is exact in every database. Hours count from 1970 too.
-- The views show a time twice: `ended_us` to search by, since an index has it, and `ended_at` to read.
-- A task gets its row when it is first started. Those never started are counted by the job: they have an index from
-- jobs.expanded on, and are queued, or ended as jobs.stopping says.
-- Lists in checks have at most two members: SQLite builds a table for a longer one, for each row that is written.
-- Foreign keys have indexes, but for those of tasks and attempts to agents: a machine's row is never deleted, and these indexes
-- would be a third of what a task costs.

CREATE TABLE leader (
    leader_id    INTEGER NOT NULL PRIMARY KEY CHECK (leader_id = 1),
    term         INTEGER NOT NULL CHECK (term >= 0),
    holder       TEXT,
    lease_end_us INTEGER NOT NULL,
    -- Transactions that leaders made, and turns of the scheduler among them: a store that has fewer than a coordinator
    -- knows of has forgotten some.
    writes       INTEGER NOT NULL DEFAULT 0 CHECK (writes >= 0),
    turns        INTEGER NOT NULL DEFAULT 0 CHECK (turns >= 0),
    -- How often a machine was revoked or let in again: with the term it orders the lists of revocations.
    revocations  INTEGER NOT NULL DEFAULT 0 CHECK (revocations >= 0),
    -- Jobs have been numbered up to here, whatever the table of jobs holds: a restored store gives no number twice.
    last_job     INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO leader (leader_id, term, holder, lease_end_us) VALUES (1, 0, NULL, 0);

-- Whose store this is. A data folder and a store that do not belong together are told apart by it, and a store that was
-- emptied from one that is new.
CREATE TABLE network (
    network_id INTEGER NOT NULL PRIMARY KEY CHECK (network_id = 1),
    network    TEXT NOT NULL,
    -- The public half of the key that signs for the network.
    authority  TEXT NOT NULL
) STRICT;

-- The coordinators that share this store. Each writes its own row now and then, whether it leads or stands by.
CREATE TABLE coordinators (
    peer      TEXT NOT NULL PRIMARY KEY,
    name      TEXT NOT NULL,
    machine   TEXT NOT NULL,
    network   TEXT NOT NULL,
    http      TEXT NOT NULL,
    addresses TEXT NOT NULL CHECK (json_valid(addresses)),
    -- Since when it leads, as it believes; only the one that `leader` names does.
    leads_us  INTEGER,
    seen_us   INTEGER NOT NULL
) STRICT;

-- What the administrator allows on machines: one row for each version, the newest of which holds.
CREATE TABLE policies (
    version INTEGER NOT NULL PRIMARY KEY CHECK (version > 0),
    book    TEXT NOT NULL CHECK (json_valid(book)),
    set_us  INTEGER NOT NULL,
    set_by  TEXT NOT NULL
) STRICT;

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
    -- Which machines a join token admits: a JSON list of names and patterns, NULL for all; and the group that they get.
    bound_names TEXT CHECK (json_valid(bound_names)),
    bound_group TEXT,
    CHECK (uses <= uses_max)
) STRICT;
-- Of valid tokens no two are called alike.
CREATE UNIQUE INDEX tokens_name ON tokens (lower(name)) WHERE revoked_us IS NULL;

CREATE TABLE agents (
    agent_id             INTEGER NOT NULL PRIMARY KEY,
    name                 TEXT NOT NULL,
    group_name           TEXT,
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
    -- Since when it gets no work because nothing of it is believed, which of the reasons it is, and the reason in words.
    quarantined_us       INTEGER,
    quarantine_kind      TEXT CHECK (quarantine_kind IN ('output', 'cloned') OR quarantine_kind = 'overtime'),
    quarantine_reason    TEXT,
    CHECK ((version IS NULL) = (os IS NULL) AND (os IS NULL) = (arch IS NULL) AND (os IS NULL) = (cores IS NULL)
        AND (os IS NULL) = (memory_bytes IS NULL) AND (os IS NULL) = (engine IS NULL)),
    CHECK ((quarantined_us IS NULL) = (quarantine_kind IS NULL) AND (quarantined_us IS NULL) = (quarantine_reason IS NULL))
) STRICT;
-- Machines are told apart whatever the case of their names' letters.
CREATE UNIQUE INDEX agents_name ON agents (lower(name));
CREATE INDEX agents_token ON agents (token_id);

CREATE TABLE jobs (
    job_id       INTEGER NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    -- The number of the token that submitted it, and what that token was called. No foreign key: who submitted a job stays
    -- true whatever becomes of the token, and no turn of the scheduler waits for a row of the registry or fails for it. Tokens
    -- are revoked and never deleted, so that no number is given twice. NULL: it is not known.
    owner_id     INTEGER,
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
    -- The digest of owner and idempotency key.
    key_digest   BLOB UNIQUE CHECK (length(key_digest) = 32),
    -- The input pack, if the inputs are one, and whether what it names is in blob_links.
    pack_digest  BLOB CHECK (length(pack_digest) = 32),
    pack_read    INTEGER NOT NULL DEFAULT 0 CHECK (pack_read IN (0, 1)),
    spec         TEXT NOT NULL,
    task_count   INTEGER NOT NULL CHECK (task_count >= 0),
    expanded     INTEGER NOT NULL CHECK (expanded BETWEEN 0 AND task_count),
    succeeded    INTEGER NOT NULL CHECK (succeeded >= 0),
    failed       INTEGER NOT NULL CHECK (failed >= 0),
    cancelled    INTEGER NOT NULL CHECK (cancelled >= 0),
    expired      INTEGER NOT NULL CHECK (expired >= 0),
    -- A retry that is under way: started tasks that ended badly are still to be queued again from this index on, and so many
    -- failures among them are forgiven.
    retry_from     INTEGER CHECK (retry_from >= 0),
    retry_forgiven INTEGER CHECK (retry_forgiven >= 0),
    CHECK ((state = 'active') = (ended_us IS NULL)),
    CHECK ((retry_from IS NULL) = (retry_forgiven IS NULL)),
    -- What is stopped or has ended is not retried.
    CHECK (retry_from IS NULL OR (state = 'active' AND stopping IS NULL)),
    CHECK ((stopping IS NULL) = (stopped_by IS NULL) AND (stopping IS NULL) = (stopped_us IS NULL)),
    CHECK (succeeded + failed + cancelled + expired <= expanded),
    -- A job cannot end while a task of it is open.
    CHECK (state = 'active' OR (succeeded + failed + cancelled + expired = expanded
        AND (expanded = task_count OR stopping IS NOT NULL)))
) STRICT;
CREATE INDEX jobs_active ON jobs (job_id) WHERE ended_us IS NULL;
-- For lists, and for deleting what ended long ago.
CREATE INDEX jobs_state ON jobs (state, job_id);
CREATE INDEX jobs_name ON jobs (name, job_id);
CREATE INDEX jobs_submitter ON jobs (submitter, job_id);
CREATE INDEX jobs_owner ON jobs (owner_id, job_id);
CREATE INDEX jobs_ended ON jobs (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX jobs_version ON jobs (version_id);
CREATE INDEX jobs_pack ON jobs (pack_digest) WHERE pack_digest IS NOT NULL;
CREATE INDEX jobs_pack_unread ON jobs (job_id) WHERE pack_digest IS NOT NULL AND pack_read = 0;

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
-- Few tasks are open and few end badly. Those that succeeded are found by their results. The open ones are counted by their
-- index alone, which therefore holds the column that it is filtered by.
CREATE INDEX tasks_open ON tasks (job_id, state, task_index, ended_us) WHERE ended_us IS NULL;
CREATE INDEX tasks_bad ON tasks (job_id, state, task_index) WHERE ended_us IS NOT NULL AND state <> 'succeeded';

CREATE TABLE attempts (
    job_id            INTEGER NOT NULL,
    task_index        INTEGER NOT NULL,
    number            INTEGER NOT NULL CHECK (number >= 1),
    agent_id          INTEGER NOT NULL REFERENCES agents (agent_id),
    started_us        INTEGER NOT NULL,
    build             TEXT NOT NULL DEFAULT 'plain' CHECK (build IN ('plain', 'migratable')),
    -- The size of the snapshot that the attempt went on from, and the running time that it held.
    resumed_bytes     INTEGER CHECK (resumed_bytes >= 0),
    resumed_spent_us  INTEGER CHECK (resumed_spent_us >= 0),
    -- Why it was started although nothing had gone wrong with those before it.
    cause             TEXT,
    -- As JSON, while it is paused.
    pause             TEXT,
    ended_us          INTEGER,
    outcome           TEXT,
    reason            TEXT,
    failure_kind      TEXT,
    failure           TEXT,
    -- What it had of a slot: waiting at its agent is not charged.
    slot_us           INTEGER,
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
-- Of each task at most one attempt is live with one agent; and what is live with an agent.
CREATE UNIQUE INDEX attempts_live ON attempts (agent_id, job_id, task_index) WHERE ended_us IS NULL;
CREATE INDEX attempts_ended ON attempts (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX attempts_failed ON attempts (ended_us) WHERE outcome = 'failed';
-- Few attempts are a task's second or later one; those of a job that are can be listed without looking at the others.
CREATE INDEX attempts_again ON attempts (job_id, started_us) WHERE number > 1;

-- A task's output: bytes here or a blob. At most one, so a task is completed once.
CREATE TABLE results (
    job_id      INTEGER NOT NULL,
    task_index  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    size_bytes  INTEGER NOT NULL CHECK (size_bytes >= 0),
    content     BLOB,
    blob_digest BLOB CHECK (length(blob_digest) = 32),
    PRIMARY KEY (job_id, task_index),
    FOREIGN KEY (job_id, task_index, number) REFERENCES attempts (job_id, task_index, number),
    CHECK ((content IS NULL) <> (blob_digest IS NULL)),
    CHECK (content IS NULL OR length(content) = size_bytes)
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
CREATE INDEX snapshots_agent ON snapshots (agent_id);

-- What agents brought for open tasks whose outputs are compared, by digest, until enough of them are alike.
CREATE TABLE answers (
    job_id     INTEGER NOT NULL,
    task_index INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (job_id, task_index, number),
    FOREIGN KEY (job_id, task_index, number) REFERENCES attempts (job_id, task_index, number)
) STRICT, WITHOUT ROWID;

-- When machines were there for work.
CREATE TABLE idle_hours (
    agent_id        INTEGER NOT NULL PRIMARY KEY REFERENCES agents (agent_id),
    -- A byte for each hour of the week by the machine's own clock, Monday's first hour first: the part of it in which the
    -- machine was connected and offered room, in half percents, averaged over weeks; 255 for an hour never watched.
    shares          BLOB NOT NULL CHECK (length(shares) = 168),
    -- A byte for each hour of the week, as in `shares`: how often in that hour the machine was taken away from work, in
    -- twentieths, averaged over weeks in which it was there in that hour; 255 for an hour in which it never was.
    taken           BLOB CHECK (length(taken) = 168),
    clock_ahead_min INTEGER NOT NULL CHECK (clock_ahead_min BETWEEN -840 AND 840),
    saved_us        INTEGER NOT NULL
) STRICT;

-- Sums that are kept when an attempt ends, so that nobody has to read attempts for them --------------------------------

-- Slot time by hour and job: fair share after a restart, and reports.
CREATE TABLE usage_hours (
    hour_number INTEGER NOT NULL,
    job_id      INTEGER NOT NULL REFERENCES jobs (job_id),
    slot_us     INTEGER NOT NULL CHECK (slot_us >= 0),
    PRIMARY KEY (hour_number, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hours_job ON usage_hours (job_id);

-- What each agent's attempts came to, by the hour in which they ended.
CREATE TABLE work_hours (
    hour_number INTEGER NOT NULL,
    agent_id    INTEGER NOT NULL REFERENCES agents (agent_id),
    attempts    INTEGER NOT NULL,
    succeeded   INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    moved       INTEGER NOT NULL,
    slot_us     INTEGER NOT NULL,
    cpu_us      INTEGER NOT NULL,
    PRIMARY KEY (hour_number, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX work_hours_agent ON work_hours (agent_id);

-- Counts over all time, whatever was deleted since.
CREATE TABLE totals (
    totals_id       INTEGER NOT NULL PRIMARY KEY CHECK (totals_id = 1),
    jobs            INTEGER NOT NULL DEFAULT 0,
    tasks_succeeded INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    attempts_lost   INTEGER NOT NULL DEFAULT 0,
    results_refused INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO totals (totals_id) VALUES (1);

CREATE TABLE audit (
    audit_id  INTEGER NOT NULL PRIMARY KEY,
    at_us     INTEGER NOT NULL,
    by_whom   TEXT NOT NULL,
    operation TEXT NOT NULL,
    subject   TEXT NOT NULL,
    detail    TEXT NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at_us);

-- A blob without a digest is still being written.
CREATE TABLE blobs (
    blob_id    INTEGER NOT NULL PRIMARY KEY,
    digest     BLOB UNIQUE CHECK (length(digest) = 32),
    size_bytes INTEGER CHECK (size_bytes >= 0),
    outline    BLOB,
    touched_us INTEGER NOT NULL,
    -- Whether the blobs that this one names, as an input pack, are in blob_links.
    links_read INTEGER NOT NULL CHECK (links_read IN (0, 1)),
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
    jobs.submitted_us, jobs.ended_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', jobs.submitted_us / 1000000.0, 'unixepoch') AS submitted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', jobs.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM jobs;

-- Tasks that were started at least once. The agent is that of the attempt that succeeded, or else of the newest.
CREATE VIEW task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    attempts.started_us, tasks.not_before_us, tasks.ended_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.not_before_us / 1000000.0, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%fZ', tasks.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM tasks
JOIN jobs ON jobs.job_id = tasks.job_id
LEFT JOIN results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = coalesce(results.number, tasks.attempts)
JOIN agents ON agents.agent_id = attempts.agent_id;

CREATE VIEW attempt_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    attempts.agent_id, agents.name AS agent_name, coalesce(attempts.outcome, 'live') AS outcome,
    attempts.reason, attempts.failure_kind, attempts.pause,
    attempts.wall_us / 1000000.0 AS wall_s, attempts.cpu_us / 1000000.0 AS cpu_s, attempts.memory_peak_bytes,
    attempts.started_us, attempts.ended_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', attempts.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM attempts
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id;

CREATE VIEW failure_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter, jobs.version_name,
    agents.name AS agent_name, attempts.failure_kind, attempts.reason,
    attempts.ended_us, strftime('%Y-%m-%dT%H:%M:%fZ', attempts.ended_us / 1000000.0, 'unixepoch') AS ended_at
FROM attempts
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id
WHERE attempts.outcome = 'failed';

-- Every time that a task left a machine unfinished and was started on another one, or on the same one again: from its
-- snapshot or, if it has none, anew. A copy that began beside another is no move.
CREATE VIEW move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    from_agents.name AS from_agent, agents.name AS to_agent, earlier.outcome, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s,
    attempts.started_us, strftime('%Y-%m-%dT%H:%M:%fZ', attempts.started_us / 1000000.0, 'unixepoch') AS started_at
FROM attempts
JOIN attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
JOIN jobs ON jobs.job_id = attempts.job_id
JOIN agents ON agents.agent_id = attempts.agent_id
JOIN agents AS from_agents ON from_agents.agent_id = earlier.agent_id
WHERE attempts.number > 1 AND earlier.ended_us <= attempts.started_us
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'));

CREATE VIEW agent_list AS
SELECT agents.agent_id, agents.name, agents.group_name, agents.intake, agents.version, agents.os, agents.arch, agents.cores,
    agents.memory_bytes, agents.labels, agents.results_refused,
    (SELECT count(*) FROM attempts INDEXED BY attempts_live
        WHERE attempts.ended_us IS NULL AND attempts.agent_id = agents.agent_id) AS attempts_live,
    agents.enrolled_us, agents.last_connected_us, agents.last_disconnected_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.enrolled_us / 1000000.0, 'unixepoch') AS enrolled_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_connected_us / 1000000.0, 'unixepoch') AS last_connected_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.last_disconnected_us / 1000000.0, 'unixepoch') AS last_disconnected_at
FROM agents;

CREATE VIEW quarantine_list AS
SELECT agents.agent_id, agents.name, agents.quarantine_kind, agents.quarantine_reason AS reason, agents.quarantined_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', agents.quarantined_us / 1000000.0, 'unixepoch') AS quarantined_at
FROM agents
WHERE agents.quarantined_us IS NOT NULL;

-- What each agent gave, by the hour in which its attempts ended.
CREATE VIEW agent_hours AS
SELECT work_hours.agent_id, agents.name AS agent_name, work_hours.hour_number,
    strftime('%Y-%m-%dT%H:00:00Z', work_hours.hour_number * 3600, 'unixepoch') AS hour_at,
    strftime('%Y-%m-%d', work_hours.hour_number * 3600, 'unixepoch') AS work_date,
    work_hours.attempts, work_hours.succeeded, work_hours.failed, work_hours.moved,
    work_hours.slot_us / 3600000000.0 AS slot_hours,
    work_hours.cpu_us / 3600000000.0 AS cpu_hours
FROM work_hours
JOIN agents ON agents.agent_id = work_hours.agent_id;

-- What each submitter used, by the hour in which the attempts ended, and by day.
CREATE VIEW hourly_usage AS
SELECT jobs.submitter, usage_hours.hour_number,
    strftime('%Y-%m-%dT%H:00:00Z', usage_hours.hour_number * 3600, 'unixepoch') AS hour_at,
    count(*) AS jobs, sum(usage_hours.slot_us) / 3600000000.0 AS slot_hours
FROM usage_hours
JOIN jobs ON jobs.job_id = usage_hours.job_id
GROUP BY usage_hours.hour_number, jobs.submitter;

CREATE VIEW daily_usage AS
SELECT jobs.submitter, strftime('%Y-%m-%d', usage_hours.hour_number * 3600, 'unixepoch') AS usage_date,
    count(DISTINCT jobs.job_id) AS jobs, sum(usage_hours.slot_us) / 3600000000.0 AS slot_hours
FROM usage_hours
JOIN jobs ON jobs.job_id = usage_hours.job_id
GROUP BY jobs.submitter, strftime('%Y-%m-%d', usage_hours.hour_number * 3600, 'unixepoch');

-- An hour of an agent's week by its own clock. Day 1 is Monday.
CREATE VIEW idle_hour_list AS
WITH RECURSIVE moments (place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM moments WHERE place < 167),
bytes AS (
    SELECT idle_hours.agent_id, moments.place,
        hex(substr(idle_hours.shares, moments.place + 1, 1)) AS share,
        CASE WHEN idle_hours.taken IS NULL THEN 'FF' ELSE hex(substr(idle_hours.taken, moments.place + 1, 1)) END AS taken
    FROM idle_hours CROSS JOIN moments
),
numbers AS (
    SELECT bytes.agent_id, bytes.place,
        instr('123456789ABCDEF', substr(bytes.share, 1, 1)) * 16 + instr('123456789ABCDEF', substr(bytes.share, 2, 1)) AS share,
        instr('123456789ABCDEF', substr(bytes.taken, 1, 1)) * 16 + instr('123456789ABCDEF', substr(bytes.taken, 2, 1)) AS taken
    FROM bytes
)
SELECT numbers.agent_id, agents.name, numbers.place / 24 + 1 AS weekday_number, numbers.place % 24 AS hour_of_day,
    CASE WHEN numbers.share <= 200 THEN numbers.share / 2.0 END AS there_percent,
    CASE WHEN numbers.taken <= 200 THEN numbers.taken / 20.0 END AS times_taken
FROM numbers JOIN agents ON agents.agent_id = numbers.agent_id;

CREATE VIEW version_list AS
SELECT versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_bytes,
    lower(hex(versions.module_digest)) AS module_digest, versions.published_by, versions.published_us, versions.removed_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', versions.published_us / 1000000.0, 'unixepoch') AS published_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', versions.removed_us / 1000000.0, 'unixepoch') AS removed_at
FROM versions
JOIN functions ON functions.function_id = versions.function_id;

CREATE VIEW coordinator_list AS
SELECT coordinators.name, coordinators.machine, coordinators.peer, coordinators.http,
    CASE WHEN leader.holder = coordinators.name || ' (' || coordinators.peer || ')' THEN 1 ELSE 0 END AS leads,
    leader.term, coordinators.leads_us, coordinators.seen_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', coordinators.leads_us / 1000000.0, 'unixepoch') AS leads_since,
    strftime('%Y-%m-%dT%H:%M:%fZ', coordinators.seen_us / 1000000.0, 'unixepoch') AS seen_at
FROM coordinators
CROSS JOIN leader;

CREATE VIEW policy_list AS
SELECT policies.version, policies.book, policies.set_by, policies.set_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', policies.set_us / 1000000.0, 'unixepoch') AS set_at
FROM policies;

CREATE VIEW audit_list AS
SELECT audit.audit_id, audit.at_us, strftime('%Y-%m-%dT%H:%M:%fZ', audit.at_us / 1000000.0, 'unixepoch') AS happened_at,
    audit.by_whom, audit.operation, audit.subject, audit.detail
FROM audit;
