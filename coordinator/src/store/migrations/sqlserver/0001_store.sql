-- The store in SQL Server 2017 and later.
--
-- Times end in _us: microseconds since 1970 in UTC, because that is exact in every database. Hours count from 1970 too.
-- The views show a time twice: `ended_us` to search by, since an index has it, and `ended_at` to read:
--   WHERE ended_us >= DATEDIFF_BIG(microsecond, '1970-01-01T00:00:00', '2027-03-01T22:00:00')
-- A task gets its row when it is first started. Those never started are counted by the job: they have an index from
-- jobs.expanded on, and are queued, or ended as jobs.stopping says.
-- Names compare by their characters alone, whatever the database's collation is.
-- Every key grows at its end, with two exceptions, which keep room on their pages (FILLFACTOR, when they are rebuilt):
-- tasks and what hangs on them lie by job, because they are read and deleted by job, and jobs that run at the same time
-- insert between each other's rows; and digests come in no order.
-- Foreign keys have indexes, but for those of tasks and attempts to agents: a machine's row is never deleted, and each task
-- would change these indexes three times.
-- Each piece up to a line GO is a batch of its own.

CREATE TABLE lull.leader (
    leader_id    int NOT NULL,
    term         bigint NOT NULL,
    holder       nvarchar(256) COLLATE Latin1_General_100_BIN2 NULL,
    lease_end_us bigint NOT NULL,
    -- Transactions that leaders made, and turns of the scheduler among them: a store that has fewer than a coordinator
    -- knows of has forgotten some. Each transaction changes this row first, so that there is one at a time.
    writes       bigint NOT NULL,
    turns        bigint NOT NULL CONSTRAINT df_leader_turns DEFAULT 0,
    -- How often a machine was revoked or let in again: with the term it orders the lists of revocations.
    revocations  bigint NOT NULL CONSTRAINT df_leader_revocations DEFAULT 0,
    -- Jobs have been numbered up to here, whatever the table of jobs holds: a restored store gives no number twice.
    last_job     bigint NOT NULL CONSTRAINT df_leader_last_job DEFAULT 0,
    CONSTRAINT pk_leader PRIMARY KEY (leader_id),
    CONSTRAINT ck_leader_one CHECK (leader_id = 1),
    CONSTRAINT ck_leader_term CHECK (term >= 0),
    CONSTRAINT ck_leader_revocations CHECK (revocations >= 0)
);
GO
INSERT INTO lull.leader (leader_id, term, holder, lease_end_us, writes) VALUES (1, 0, NULL, 0, 0);
GO
-- Whose store this is. A data folder and a store that do not belong together are told apart by it, and a store that was
-- emptied from one that is new.
CREATE TABLE lull.network (
    network_id int NOT NULL,
    network    nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
    -- The public half of the key that signs for the network.
    authority  nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_network PRIMARY KEY (network_id),
    CONSTRAINT ck_network_one CHECK (network_id = 1)
);
GO
-- The coordinators that share this store. Each writes its own row now and then, whether it leads or stands by.
CREATE TABLE lull.coordinators (
    peer      nvarchar(128) COLLATE Latin1_General_100_BIN2 NOT NULL,
    name      nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    machine   nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    network   nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
    http      nvarchar(2000) NOT NULL,
    addresses nvarchar(max) NOT NULL,
    -- Since when it leads, as it believes; only the one that `leader` names does.
    leads_us  bigint NULL,
    seen_us   bigint NOT NULL,
    CONSTRAINT pk_coordinators PRIMARY KEY (peer),
    CONSTRAINT ck_coordinators_addresses CHECK (ISJSON(addresses) = 1)
);
GO
-- What the administrator allows on machines: one row for each version, the newest of which holds.
CREATE TABLE lull.policies (
    version bigint NOT NULL,
    book    nvarchar(max) NOT NULL,
    set_us  bigint NOT NULL,
    set_by  nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_policies PRIMARY KEY (version),
    CONSTRAINT ck_policies_version CHECK (version > 0),
    CONSTRAINT ck_policies_book CHECK (ISJSON(book) = 1)
);
GO
CREATE TABLE lull.functions (
    function_id bigint NOT NULL,
    name        nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_functions PRIMARY KEY (function_id),
    CONSTRAINT uq_functions_name UNIQUE (name)
);
GO
CREATE TABLE lull.versions (
    version_id         bigint NOT NULL,
    function_id        bigint NOT NULL,
    number             int NOT NULL,
    kind               varchar(16) NOT NULL,
    module_digest      binary(32) NOT NULL,
    module_bytes       bigint NOT NULL,
    canonical_nans     bit NOT NULL,
    manifest           varbinary(max) NOT NULL,
    manifest_signature varbinary(max) NOT NULL,
    interface          nvarchar(max) NOT NULL,
    published_us       bigint NOT NULL,
    published_by       nvarchar(256) NOT NULL,
    removed_us         bigint NULL,
    CONSTRAINT pk_versions PRIMARY KEY (version_id),
    CONSTRAINT fk_versions_function FOREIGN KEY (function_id) REFERENCES lull.functions (function_id),
    CONSTRAINT uq_versions_number UNIQUE (function_id, number),
    CONSTRAINT ck_versions_number CHECK (number >= 1),
    CONSTRAINT ck_versions_kind CHECK (kind IN ('preview1', 'component')),
    CONSTRAINT ck_versions_bytes CHECK (module_bytes >= 0)
);
GO
-- Blobs that a version needs: its module and what was compiled from it.
CREATE TABLE lull.version_blobs (
    version_id bigint NOT NULL,
    digest     binary(32) NOT NULL,
    CONSTRAINT pk_version_blobs PRIMARY KEY (version_id, digest),
    CONSTRAINT fk_version_blobs_version FOREIGN KEY (version_id) REFERENCES lull.versions (version_id)
);
GO
CREATE INDEX ix_version_blobs_digest ON lull.version_blobs (digest) WITH (FILLFACTOR = 80);
GO
CREATE TABLE lull.tokens (
    token_id    bigint NOT NULL,
    role        varchar(16) NOT NULL,
    name        nvarchar(256) NOT NULL,
    fingerprint binary(32) NOT NULL,
    uses        bigint NOT NULL,
    uses_max    bigint NULL,
    created_us  bigint NOT NULL,
    created_by  nvarchar(256) NOT NULL,
    expires_us  bigint NULL,
    revoked_us  bigint NULL,
    -- Which machines a join token admits: a JSON list of names and patterns, NULL for all; and the group that they get.
    bound_names nvarchar(max) NULL,
    bound_group nvarchar(256) NULL,
    CONSTRAINT pk_tokens PRIMARY KEY (token_id),
    CONSTRAINT uq_tokens_fingerprint UNIQUE (fingerprint),
    CONSTRAINT ck_tokens_role CHECK (role IN ('agent', 'viewer', 'submitter', 'publisher', 'admin')),
    CONSTRAINT ck_tokens_uses CHECK (uses >= 0 AND (uses_max IS NULL OR uses <= uses_max)),
    CONSTRAINT ck_tokens_bound CHECK (bound_names IS NULL OR ISJSON(bound_names) = 1)
);
GO
-- Of valid tokens no two are called alike.
CREATE UNIQUE INDEX uq_tokens_name ON lull.tokens (name) INCLUDE (revoked_us) WHERE revoked_us IS NULL;
GO
CREATE TABLE lull.agents (
    agent_id             bigint NOT NULL,
    name                 nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    -- The same in small letters: machines are told apart whatever the case.
    name_folded          nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    group_name           nvarchar(256) NULL,
    peer                 varbinary(128) NOT NULL,
    intake               varchar(16) NOT NULL,
    token_id             bigint NOT NULL,
    enrolled_us          bigint NOT NULL,
    last_connected_us    bigint NULL,
    last_disconnected_us bigint NULL,
    version              nvarchar(256) NULL,
    os                   nvarchar(64) NULL,
    arch                 nvarchar(64) NULL,
    cores                int NULL,
    memory_bytes         bigint NULL,
    engine               nvarchar(256) NULL,
    labels               nvarchar(max) NOT NULL,
    results_refused      bigint NOT NULL,
    -- Since when it gets no work because nothing of it is believed, which of the reasons it is, and the reason in words.
    quarantined_us       bigint NULL,
    quarantine_kind      varchar(16) NULL,
    quarantine_reason    nvarchar(2000) NULL,
    CONSTRAINT pk_agents PRIMARY KEY (agent_id),
    CONSTRAINT uq_agents_name UNIQUE (name_folded),
    CONSTRAINT uq_agents_peer UNIQUE (peer),
    CONSTRAINT fk_agents_token FOREIGN KEY (token_id) REFERENCES lull.tokens (token_id),
    CONSTRAINT ck_agents_intake CHECK (intake IN ('open', 'cordoned', 'draining', 'revoked')),
    CONSTRAINT ck_agents_refused CHECK (results_refused >= 0),
    CONSTRAINT ck_agents_machine CHECK (
        (version IS NULL AND os IS NULL AND arch IS NULL AND cores IS NULL AND memory_bytes IS NULL AND engine IS NULL)
        OR (version IS NOT NULL AND os IS NOT NULL AND arch IS NOT NULL AND cores IS NOT NULL AND memory_bytes IS NOT NULL
            AND engine IS NOT NULL)),
    CONSTRAINT ck_agents_quarantine CHECK (
        (quarantined_us IS NULL AND quarantine_kind IS NULL AND quarantine_reason IS NULL)
        OR (quarantined_us IS NOT NULL AND quarantine_kind IN ('output', 'cloned', 'overtime') AND quarantine_reason IS NOT NULL))
);
GO
CREATE INDEX ix_agents_token ON lull.agents (token_id);
GO
CREATE TABLE lull.jobs (
    job_id       bigint NOT NULL,
    name         nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    -- The number of the token that submitted it, and what that token was called. No foreign key: who submitted a job stays
    -- true whatever becomes of the token, and no turn of the scheduler waits for a row of the registry or fails for it. Tokens
    -- are revoked and never deleted, so that no number is given twice. NULL: it is not known.
    owner_id     bigint NULL,
    submitter    nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    version_id   bigint NOT NULL,
    version_name nvarchar(256) NOT NULL,
    priority     int NOT NULL,
    state        varchar(16) NOT NULL,
    stopping     varchar(16) NULL,
    stopped_by   nvarchar(256) NULL,
    stopped_us   bigint NULL,
    submitted_us bigint NOT NULL,
    finish_by_us bigint NULL,
    ended_us     bigint NULL,
    seed         bigint NOT NULL,
    -- The digest of owner and idempotency key.
    key_digest   binary(32) NULL,
    -- The input pack, if the inputs are one, and whether what it names is in blob_links.
    pack_digest  binary(32) NULL,
    pack_read    bit NOT NULL CONSTRAINT df_jobs_pack_read DEFAULT 0,
    spec         nvarchar(max) NOT NULL,
    task_count   int NOT NULL,
    expanded     int NOT NULL,
    succeeded    int NOT NULL,
    failed       int NOT NULL,
    cancelled    int NOT NULL,
    expired      int NOT NULL,
    -- A retry that is under way: started tasks that ended badly are still to be queued again from this index on, and so many
    -- failures among them are forgiven.
    retry_from     int NULL,
    retry_forgiven int NULL,
    CONSTRAINT pk_jobs PRIMARY KEY (job_id),
    CONSTRAINT fk_jobs_version FOREIGN KEY (version_id) REFERENCES lull.versions (version_id),
    CONSTRAINT ck_jobs_state CHECK (state IN ('active', 'succeeded', 'failed', 'cancelled', 'expired')),
    CONSTRAINT ck_jobs_stopping CHECK (stopping IN ('succeeded', 'failed', 'cancelled', 'expired')),
    CONSTRAINT ck_jobs_ended CHECK ((state = 'active' AND ended_us IS NULL) OR (state <> 'active' AND ended_us IS NOT NULL)),
    CONSTRAINT ck_jobs_stopped CHECK (
        (stopping IS NULL AND stopped_by IS NULL AND stopped_us IS NULL)
        OR (stopping IS NOT NULL AND stopped_by IS NOT NULL AND stopped_us IS NOT NULL)),
    -- What is stopped or has ended is not retried.
    CONSTRAINT ck_jobs_retry CHECK (
        (retry_from IS NULL AND retry_forgiven IS NULL)
        OR (retry_from >= 0 AND retry_forgiven >= 0 AND state = 'active' AND stopping IS NULL)),
    CONSTRAINT ck_jobs_expanded CHECK (task_count >= 0 AND expanded >= 0 AND expanded <= task_count),
    CONSTRAINT ck_jobs_counts CHECK (succeeded >= 0 AND failed >= 0 AND cancelled >= 0 AND expired >= 0
        AND succeeded + failed + cancelled + expired <= expanded),
    -- A job cannot end while a task of it is open.
    CONSTRAINT ck_jobs_nothing_lost CHECK (state = 'active'
        OR (succeeded + failed + cancelled + expired = expanded AND (expanded = task_count OR stopping IS NOT NULL)))
);
GO
CREATE UNIQUE INDEX uq_jobs_key ON lull.jobs (key_digest) WHERE key_digest IS NOT NULL WITH (FILLFACTOR = 80);
GO
CREATE INDEX ix_jobs_active ON lull.jobs (job_id) INCLUDE (ended_us) WHERE ended_us IS NULL;
GO
-- For lists, and for deleting what ended long ago.
CREATE INDEX ix_jobs_state ON lull.jobs (state, job_id);
GO
CREATE INDEX ix_jobs_name ON lull.jobs (name, job_id);
GO
CREATE INDEX ix_jobs_submitter ON lull.jobs (submitter, job_id);
GO
CREATE INDEX ix_jobs_owner ON lull.jobs (owner_id, job_id);
GO
CREATE INDEX ix_jobs_ended ON lull.jobs (ended_us) WHERE ended_us IS NOT NULL;
GO
CREATE INDEX ix_jobs_version ON lull.jobs (version_id);
GO
CREATE INDEX ix_jobs_pack ON lull.jobs (pack_digest) WHERE pack_digest IS NOT NULL WITH (FILLFACTOR = 80);
GO
CREATE INDEX ix_jobs_pack_unread ON lull.jobs (job_id) INCLUDE (pack_digest, pack_read)
    WHERE pack_digest IS NOT NULL AND pack_read = 0;
GO
CREATE TABLE lull.tasks (
    job_id        bigint NOT NULL,
    task_index    int NOT NULL,
    state         varchar(16) NOT NULL,
    attempts      int NOT NULL,
    failures      int NOT NULL,
    agent_id      bigint NULL,
    not_before_us bigint NULL,
    ended_us      bigint NULL,
    CONSTRAINT pk_tasks PRIMARY KEY (job_id, task_index) WITH (FILLFACTOR = 85),
    CONSTRAINT fk_tasks_job FOREIGN KEY (job_id) REFERENCES lull.jobs (job_id),
    CONSTRAINT fk_tasks_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_tasks_index CHECK (task_index >= 0),
    CONSTRAINT ck_tasks_attempts CHECK (attempts >= 1 AND failures >= 0 AND failures <= attempts),
    -- A task is with an agent, or it waits, or it has ended.
    CONSTRAINT ck_tasks_place CHECK (
        (state IN ('running', 'paused') AND agent_id IS NOT NULL AND not_before_us IS NULL AND ended_us IS NULL)
        OR (state IN ('queued', 'waiting') AND agent_id IS NULL AND not_before_us IS NOT NULL AND ended_us IS NULL)
        OR (state IN ('succeeded', 'failed', 'cancelled', 'expired') AND agent_id IS NULL AND not_before_us IS NULL
            AND ended_us IS NOT NULL))
);
GO
-- Few tasks are open and few end badly. Those that succeeded are found by their results.
CREATE INDEX ix_tasks_open ON lull.tasks (job_id, state, task_index) INCLUDE (ended_us) WHERE ended_us IS NULL;
GO
CREATE INDEX ix_tasks_bad ON lull.tasks (job_id, state, task_index) INCLUDE (ended_us)
    WHERE ended_us IS NOT NULL AND state <> 'succeeded';
GO
-- Rows grow when they end: one more reason for room on the pages.
CREATE TABLE lull.attempts (
    job_id            bigint NOT NULL,
    task_index        int NOT NULL,
    number            int NOT NULL,
    agent_id          bigint NOT NULL,
    started_us        bigint NOT NULL,
    build             varchar(16) NOT NULL CONSTRAINT df_attempts_build DEFAULT 'plain',
    -- The size of the snapshot that the attempt went on from, and the running time that it held.
    resumed_bytes     bigint NULL,
    resumed_spent_us  bigint NULL,
    -- Why it was started although nothing had gone wrong with those before it.
    cause             nvarchar(2000) NULL,
    -- As JSON, while it is paused.
    pause             nvarchar(max) NULL,
    ended_us          bigint NULL,
    outcome           varchar(16) NULL,
    reason            nvarchar(2000) NULL,
    failure_kind      varchar(32) NULL,
    failure           nvarchar(max) NULL,
    -- What it had of a slot: waiting at its agent is not charged.
    slot_us           bigint NULL,
    wall_us           bigint NULL,
    cpu_us            bigint NULL,
    memory_peak_bytes bigint NULL,
    CONSTRAINT pk_attempts PRIMARY KEY (job_id, task_index, number) WITH (FILLFACTOR = 80),
    CONSTRAINT fk_attempts_task FOREIGN KEY (job_id, task_index) REFERENCES lull.tasks (job_id, task_index),
    CONSTRAINT fk_attempts_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_attempts_number CHECK (number >= 1),
    CONSTRAINT ck_attempts_build CHECK (build IN ('plain', 'migratable')),
    CONSTRAINT ck_attempts_resumed CHECK (resumed_bytes >= 0 AND resumed_spent_us >= 0),
    CONSTRAINT ck_attempts_outcome CHECK (outcome IN ('succeeded', 'failed', 'evicted', 'recalled', 'lost', 'cancelled')),
    CONSTRAINT ck_attempts_over CHECK (
        (ended_us IS NULL AND outcome IS NULL AND wall_us IS NULL AND cpu_us IS NULL AND memory_peak_bytes IS NULL
            AND failure IS NULL)
        OR (ended_us IS NOT NULL AND outcome IS NOT NULL AND wall_us IS NOT NULL AND cpu_us IS NOT NULL
            AND memory_peak_bytes IS NOT NULL AND pause IS NULL)),
    CONSTRAINT ck_attempts_failure CHECK (
        (failure IS NULL AND failure_kind IS NULL) OR (failure IS NOT NULL AND failure_kind IS NOT NULL))
);
GO
-- Of each task at most one attempt is live with one agent; and what is live with an agent.
CREATE UNIQUE INDEX uq_attempts_live ON lull.attempts (agent_id, job_id, task_index) INCLUDE (ended_us) WHERE ended_us IS NULL;
GO
CREATE INDEX ix_attempts_ended ON lull.attempts (ended_us) WHERE ended_us IS NOT NULL;
GO
CREATE INDEX ix_attempts_failed ON lull.attempts (ended_us) INCLUDE (outcome) WHERE outcome = 'failed';
GO
-- Few attempts are a task's second or later one; those of a job that are can be listed without looking at the others.
CREATE INDEX ix_attempts_again ON lull.attempts (job_id, started_us) INCLUDE (number) WHERE number > 1;
GO
-- A task's output: bytes here or a blob. At most one, so a task is completed once.
CREATE TABLE lull.results (
    job_id      bigint NOT NULL,
    task_index  int NOT NULL,
    number      int NOT NULL,
    size_bytes  bigint NOT NULL,
    content     varbinary(max) NULL,
    blob_digest binary(32) NULL,
    CONSTRAINT pk_results PRIMARY KEY (job_id, task_index) WITH (FILLFACTOR = 85),
    CONSTRAINT fk_results_attempt FOREIGN KEY (job_id, task_index, number)
        REFERENCES lull.attempts (job_id, task_index, number),
    CONSTRAINT ck_results_one CHECK (
        (content IS NULL AND blob_digest IS NOT NULL) OR (content IS NOT NULL AND blob_digest IS NULL)),
    CONSTRAINT ck_results_size CHECK (size_bytes >= 0 AND (content IS NULL OR DATALENGTH(content) = size_bytes))
);
GO
CREATE INDEX ix_results_blob ON lull.results (blob_digest) WHERE blob_digest IS NOT NULL WITH (FILLFACTOR = 80);
GO
CREATE TABLE lull.logs (
    job_id        bigint NOT NULL,
    task_index    int NOT NULL,
    number        int NOT NULL,
    log           varbinary(max) NOT NULL,
    dropped_bytes bigint NOT NULL,
    CONSTRAINT pk_logs PRIMARY KEY (job_id, task_index, number) WITH (FILLFACTOR = 85),
    CONSTRAINT fk_logs_attempt FOREIGN KEY (job_id, task_index, number)
        REFERENCES lull.attempts (job_id, task_index, number),
    CONSTRAINT ck_logs_dropped CHECK (dropped_bytes >= 0)
);
GO
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
CREATE INDEX ix_snapshots_agent ON lull.snapshots (agent_id);
GO
-- What agents brought for open tasks whose outputs are compared, by digest, until enough of them are alike.
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
-- When machines were there for work.
CREATE TABLE lull.idle_hours (
    agent_id        bigint NOT NULL,
    -- A byte for each hour of the week by the machine's own clock, Monday's first hour first: the part of it in which the
    -- machine was connected and offered room, in half percents, averaged over weeks; 255 for an hour never watched.
    shares          binary(168) NOT NULL,
    -- A byte for each hour of the week, as in `shares`: how often in that hour the machine was taken away from work, in
    -- twentieths, averaged over weeks in which it was there in that hour; 255 for an hour in which it never was.
    taken           binary(168) NULL,
    clock_ahead_min smallint NOT NULL,
    saved_us        bigint NOT NULL,
    CONSTRAINT pk_idle_hours PRIMARY KEY (agent_id),
    CONSTRAINT fk_idle_hours_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_idle_hours_clock CHECK (clock_ahead_min BETWEEN -840 AND 840)
);
GO
-- Sums that are kept when an attempt ends, so that nobody has to read attempts for them --------------------------------

-- Slot time by hour and job: fair share after a restart, and reports.
CREATE TABLE lull.usage_hours (
    hour_number bigint NOT NULL,
    job_id      bigint NOT NULL,
    slot_us     bigint NOT NULL,
    CONSTRAINT pk_usage_hours PRIMARY KEY (hour_number, job_id),
    CONSTRAINT fk_usage_hours_job FOREIGN KEY (job_id) REFERENCES lull.jobs (job_id),
    CONSTRAINT ck_usage_hours_slot CHECK (slot_us >= 0)
);
GO
CREATE INDEX ix_usage_hours_job ON lull.usage_hours (job_id);
GO
-- What each agent's attempts came to, by the hour in which they ended.
CREATE TABLE lull.work_hours (
    hour_number bigint NOT NULL,
    agent_id    bigint NOT NULL,
    attempts    bigint NOT NULL,
    succeeded   bigint NOT NULL,
    failed      bigint NOT NULL,
    moved       bigint NOT NULL,
    slot_us     bigint NOT NULL,
    cpu_us      bigint NOT NULL,
    CONSTRAINT pk_work_hours PRIMARY KEY (hour_number, agent_id),
    CONSTRAINT fk_work_hours_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id)
);
GO
CREATE INDEX ix_work_hours_agent ON lull.work_hours (agent_id);
GO
-- Counts over all time, whatever was deleted since.
CREATE TABLE lull.totals (
    totals_id       int NOT NULL,
    jobs            bigint NOT NULL CONSTRAINT df_totals_jobs DEFAULT 0,
    tasks_succeeded bigint NOT NULL CONSTRAINT df_totals_tasks_succeeded DEFAULT 0,
    attempts        bigint NOT NULL CONSTRAINT df_totals_attempts DEFAULT 0,
    attempts_lost   bigint NOT NULL CONSTRAINT df_totals_attempts_lost DEFAULT 0,
    results_refused bigint NOT NULL CONSTRAINT df_totals_results_refused DEFAULT 0,
    CONSTRAINT pk_totals PRIMARY KEY (totals_id),
    CONSTRAINT ck_totals_one CHECK (totals_id = 1)
);
GO
INSERT INTO lull.totals (totals_id) VALUES (1);
GO
CREATE TABLE lull.audit (
    audit_id  bigint IDENTITY (1, 1) NOT NULL,
    at_us     bigint NOT NULL,
    by_whom   nvarchar(256) NOT NULL,
    operation varchar(32) NOT NULL,
    subject   nvarchar(256) NOT NULL,
    detail    nvarchar(2000) NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (audit_id)
);
GO
CREATE INDEX ix_audit_at ON lull.audit (at_us);
GO
-- A blob without a digest is still being written.
CREATE TABLE lull.blobs (
    blob_id    bigint IDENTITY (1, 1) NOT NULL,
    digest     binary(32) NULL,
    size_bytes bigint NULL,
    outline    varbinary(max) NULL,
    touched_us bigint NOT NULL,
    -- Whether the blobs that this one names, as an input pack, are in blob_links.
    links_read bit NOT NULL,
    CONSTRAINT pk_blobs PRIMARY KEY (blob_id),
    CONSTRAINT ck_blobs_named CHECK (
        (digest IS NULL AND size_bytes IS NULL AND outline IS NULL)
        OR (digest IS NOT NULL AND size_bytes IS NOT NULL AND outline IS NOT NULL))
);
GO
CREATE UNIQUE INDEX uq_blobs_digest ON lull.blobs (digest) WHERE digest IS NOT NULL WITH (FILLFACTOR = 80);
GO
CREATE TABLE lull.blob_pieces (
    blob_id     bigint NOT NULL,
    piece_index int NOT NULL,
    bytes       varbinary(max) NOT NULL,
    CONSTRAINT pk_blob_pieces PRIMARY KEY (blob_id, piece_index),
    CONSTRAINT fk_blob_pieces_blob FOREIGN KEY (blob_id) REFERENCES lull.blobs (blob_id),
    CONSTRAINT ck_blob_pieces_index CHECK (piece_index >= 0)
);
GO
-- Blobs that an input pack names.
CREATE TABLE lull.blob_links (
    pack_id bigint NOT NULL,
    digest  binary(32) NOT NULL,
    CONSTRAINT pk_blob_links PRIMARY KEY (pack_id, digest),
    CONSTRAINT fk_blob_links_pack FOREIGN KEY (pack_id) REFERENCES lull.blobs (blob_id)
);
GO
CREATE INDEX ix_blob_links_digest ON lull.blob_links (digest) WITH (FILLFACTOR = 80);
GO
-- For people ---------------------------------------------------------------------------------------------------------

-- Microseconds since 1970 as a time; NULL beyond the years that datetime2 knows. A table of one row, which the server
-- puts into the plan of whatever asks, where it would call a function that returns a value once for each row.
CREATE FUNCTION lull.utc (@us bigint)
RETURNS TABLE
AS
RETURN (
    SELECT CASE WHEN @us BETWEEN -62135596800000000 AND 253402300799999999
        THEN DATEADD(microsecond, CAST(@us % 1000000 AS int),
            DATEADD(second, CAST((@us / 1000000) % 86400 AS int),
                DATEADD(day, CAST(@us / 86400000000 AS int), CAST('1970-01-01T00:00:00' AS datetime2(6)))))
        END AS moment
);
GO
CREATE VIEW lull.job_progress AS
SELECT jobs.job_id, jobs.name, jobs.submitter, jobs.version_name, jobs.priority, jobs.state, jobs.stopping, jobs.task_count,
    CASE WHEN jobs.stopping IS NULL THEN jobs.task_count - jobs.expanded ELSE 0 END AS never_started,
    jobs.expanded - jobs.succeeded - jobs.failed - jobs.cancelled - jobs.expired AS open_tasks,
    jobs.succeeded, jobs.failed,
    jobs.cancelled + CASE WHEN jobs.stopping <> 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS cancelled,
    jobs.expired + CASE WHEN jobs.stopping = 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS expired,
    jobs.submitted_us, jobs.ended_us, submitted.moment AS submitted_at, ended.moment AS ended_at
FROM lull.jobs AS jobs
CROSS APPLY lull.utc(jobs.submitted_us) AS submitted
CROSS APPLY lull.utc(jobs.ended_us) AS ended;
GO
-- Tasks that were started at least once. The agent is that of the attempt that succeeded, or else of the newest.
CREATE VIEW lull.task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    attempts.started_us, tasks.not_before_us, tasks.ended_us,
    started.moment AS started_at, waited.moment AS not_before, ended.moment AS ended_at
FROM lull.tasks AS tasks
INNER JOIN lull.jobs AS jobs ON jobs.job_id = tasks.job_id
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = COALESCE(results.number, tasks.attempts)
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
CROSS APPLY lull.utc(attempts.started_us) AS started
CROSS APPLY lull.utc(tasks.not_before_us) AS waited
CROSS APPLY lull.utc(tasks.ended_us) AS ended;
GO
CREATE VIEW lull.attempt_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    attempts.agent_id, agents.name AS agent_name, COALESCE(attempts.outcome, 'live') AS outcome,
    attempts.reason, attempts.failure_kind, attempts.pause,
    attempts.wall_us / 1000000.0 AS wall_s, attempts.cpu_us / 1000000.0 AS cpu_s, attempts.memory_peak_bytes,
    attempts.started_us, attempts.ended_us, started.moment AS started_at, ended.moment AS ended_at
FROM lull.attempts AS attempts
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
CROSS APPLY lull.utc(attempts.started_us) AS started
CROSS APPLY lull.utc(attempts.ended_us) AS ended;
GO
CREATE VIEW lull.failure_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter, jobs.version_name,
    agents.name AS agent_name, attempts.failure_kind, attempts.reason, attempts.ended_us, ended.moment AS ended_at
FROM lull.attempts AS attempts
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
CROSS APPLY lull.utc(attempts.ended_us) AS ended
WHERE attempts.outcome = 'failed';
GO
-- Every time that a task left a machine unfinished and was started on another one, or on the same one again: from its
-- snapshot or, if it has none, anew. A copy that began beside another is no move.
CREATE VIEW lull.move_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    from_agents.name AS from_agent, agents.name AS to_agent, earlier.outcome, earlier.reason,
    attempts.resumed_bytes, attempts.resumed_spent_us / 1000000.0 AS resumed_spent_s,
    (attempts.started_us - earlier.ended_us) / 1000000.0 AS between_s, attempts.started_us, started.moment AS started_at
FROM lull.attempts AS attempts
INNER JOIN lull.attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
    AND earlier.number = attempts.number - 1
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
INNER JOIN lull.agents AS from_agents ON from_agents.agent_id = earlier.agent_id
CROSS APPLY lull.utc(attempts.started_us) AS started
WHERE attempts.number > 1 AND earlier.ended_us <= attempts.started_us
    AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'));
GO
CREATE VIEW lull.agent_list AS
SELECT agents.agent_id, agents.name, agents.group_name, agents.intake, agents.version, agents.os, agents.arch, agents.cores,
    agents.memory_bytes, agents.labels, agents.results_refused,
    (SELECT COUNT(*) FROM lull.attempts AS live WHERE live.ended_us IS NULL AND live.agent_id = agents.agent_id) AS attempts_live,
    agents.enrolled_us, agents.last_connected_us, agents.last_disconnected_us,
    enrolled.moment AS enrolled_at, connected.moment AS last_connected_at, disconnected.moment AS last_disconnected_at
FROM lull.agents AS agents
CROSS APPLY lull.utc(agents.enrolled_us) AS enrolled
CROSS APPLY lull.utc(agents.last_connected_us) AS connected
CROSS APPLY lull.utc(agents.last_disconnected_us) AS disconnected;
GO
CREATE VIEW lull.quarantine_list AS
SELECT agents.agent_id, agents.name, agents.quarantine_kind, agents.quarantine_reason AS reason, agents.quarantined_us,
    quarantined.moment AS quarantined_at
FROM lull.agents AS agents
CROSS APPLY lull.utc(agents.quarantined_us) AS quarantined
WHERE agents.quarantined_us IS NOT NULL;
GO
-- What each agent gave, by the hour in which its attempts ended.
CREATE VIEW lull.agent_hours AS
SELECT work_hours.agent_id, agents.name AS agent_name, work_hours.hour_number,
    DATEADD(hour, CAST(work_hours.hour_number AS int), CAST('1970-01-01T00:00:00' AS datetime2(0))) AS hour_at,
    CAST(DATEADD(day, CAST(work_hours.hour_number / 24 AS int), CAST('1970-01-01T00:00:00' AS datetime2(0))) AS date) AS work_date,
    work_hours.attempts, work_hours.succeeded, work_hours.failed, work_hours.moved,
    work_hours.slot_us / 3600000000.0 AS slot_hours,
    work_hours.cpu_us / 3600000000.0 AS cpu_hours
FROM lull.work_hours AS work_hours
INNER JOIN lull.agents AS agents ON agents.agent_id = work_hours.agent_id;
GO
-- What each submitter used, by the hour in which the attempts ended, and by day.
CREATE VIEW lull.hourly_usage AS
SELECT hours.submitter, hours.hour_number,
    DATEADD(hour, CAST(hours.hour_number AS int), CAST('1970-01-01T00:00:00' AS datetime2(0))) AS hour_at,
    hours.jobs, hours.slot_us / 3600000000.0 AS slot_hours
FROM (
    SELECT jobs.submitter, usage_hours.hour_number, COUNT(*) AS jobs,
        SUM(CAST(usage_hours.slot_us AS decimal(38, 0))) AS slot_us
    FROM lull.usage_hours AS usage_hours
    INNER JOIN lull.jobs AS jobs ON jobs.job_id = usage_hours.job_id
    GROUP BY jobs.submitter, usage_hours.hour_number
) AS hours;
GO
CREATE VIEW lull.daily_usage AS
SELECT days.submitter,
    CAST(DATEADD(day, CAST(days.day_number AS int), CAST('1970-01-01T00:00:00' AS datetime2(0))) AS date) AS usage_date,
    days.jobs,
    days.slot_us / 3600000000.0 AS slot_hours
FROM (
    SELECT jobs.submitter, usage_hours.hour_number / 24 AS day_number, COUNT(DISTINCT jobs.job_id) AS jobs,
        SUM(CAST(usage_hours.slot_us AS decimal(38, 0))) AS slot_us
    FROM lull.usage_hours AS usage_hours
    INNER JOIN lull.jobs AS jobs ON jobs.job_id = usage_hours.job_id
    GROUP BY jobs.submitter, usage_hours.hour_number / 24
) AS days;
GO
-- An hour of an agent's week by its own clock. Day 1 is Monday.
CREATE VIEW lull.idle_hour_list AS
SELECT agents.agent_id, agents.name, days.weekday_number, hours.hour_of_day,
    CASE WHEN bytes.share <= 200 THEN bytes.share / 2.0 END AS there_percent,
    CASE WHEN bytes.taken <= 200 THEN bytes.taken / 20.0 END AS times_taken
FROM lull.idle_hours AS idle_hours
INNER JOIN lull.agents AS agents ON agents.agent_id = idle_hours.agent_id
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7)) AS days (weekday_number)
CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18),
    (19), (20), (21), (22), (23)) AS hours (hour_of_day)
CROSS APPLY (SELECT
    CONVERT(int, SUBSTRING(idle_hours.shares, (days.weekday_number - 1) * 24 + hours.hour_of_day + 1, 1)) AS share,
    CONVERT(int, SUBSTRING(idle_hours.taken, (days.weekday_number - 1) * 24 + hours.hour_of_day + 1, 1)) AS taken) AS bytes;
GO
CREATE VIEW lull.version_list AS
SELECT versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_bytes,
    LOWER(CONVERT(varchar(64), versions.module_digest, 2)) AS module_digest, versions.published_by,
    versions.published_us, versions.removed_us, published.moment AS published_at, removed.moment AS removed_at
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id
CROSS APPLY lull.utc(versions.published_us) AS published
CROSS APPLY lull.utc(versions.removed_us) AS removed;
GO
CREATE VIEW lull.coordinator_list AS
SELECT coordinators.name, coordinators.machine, coordinators.peer, coordinators.http,
    CASE WHEN leader.holder = CONCAT(coordinators.name, ' (', coordinators.peer, ')') THEN 1 ELSE 0 END AS leads,
    leader.term, coordinators.leads_us, coordinators.seen_us, leads.moment AS leads_since, seen.moment AS seen_at
FROM lull.coordinators AS coordinators
CROSS JOIN lull.leader AS leader
CROSS APPLY lull.utc(coordinators.leads_us) AS leads
CROSS APPLY lull.utc(coordinators.seen_us) AS seen;
GO
CREATE VIEW lull.policy_list AS
SELECT policies.version, policies.book, policies.set_by, policies.set_us, was_set.moment AS set_at
FROM lull.policies AS policies
CROSS APPLY lull.utc(policies.set_us) AS was_set;
GO
CREATE VIEW lull.audit_list AS
SELECT audit.audit_id, audit.at_us, happened.moment AS happened_at, audit.by_whom, audit.operation, audit.subject, audit.detail
FROM lull.audit AS audit
CROSS APPLY lull.utc(audit.at_us) AS happened;
