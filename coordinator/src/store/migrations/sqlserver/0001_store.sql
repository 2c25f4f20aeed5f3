-- The first shape of the store in SQL Server 2017 and later.
--
-- Times end in _us: microseconds since 1970 in UTC, because that is exact in every database; the views show them as
-- datetime2. A task gets its row when it is first started. Those never started are counted by the job: they have an
-- index from jobs.expanded on, and are queued, or ended as jobs.stopping says.
-- Names compare by their characters alone, whatever the database's collation is.
-- Each piece up to a line GO is a batch of its own.

CREATE TABLE lull.leader (
    leader_id     int NOT NULL,
    term        bigint NOT NULL,
    holder       nvarchar(256) COLLATE Latin1_General_100_BIN2 NULL,
    lease_end_us bigint NOT NULL,
    -- Issued anew with each term and each loading of the store; whoever writes names the one that was issued last.
    writ         bigint NOT NULL,
    -- Counts the transactions that wrote: each one changes this row first, so that there is one at a time.
    writes       bigint NOT NULL,
    CONSTRAINT pk_leader PRIMARY KEY (leader_id),
    CONSTRAINT ck_leader_one CHECK (leader_id = 1),
    CONSTRAINT ck_leader_term CHECK (term >= 0)
);
GO
INSERT INTO lull.leader (leader_id, term, holder, lease_end_us, writ, writes) VALUES (1, 0, NULL, 0, 0, 0);
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
CREATE INDEX ix_version_blobs_digest ON lull.version_blobs (digest);
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
    CONSTRAINT pk_tokens PRIMARY KEY (token_id),
    CONSTRAINT uq_tokens_fingerprint UNIQUE (fingerprint),
    CONSTRAINT ck_tokens_role CHECK (role IN ('agent', 'viewer', 'submitter', 'publisher', 'admin')),
    CONSTRAINT ck_tokens_uses CHECK (uses >= 0 AND (uses_max IS NULL OR uses <= uses_max))
);
GO
CREATE TABLE lull.agents (
    agent_id             bigint NOT NULL,
    name                 nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
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
    CONSTRAINT pk_agents PRIMARY KEY (agent_id),
    CONSTRAINT uq_agents_name UNIQUE (name),
    CONSTRAINT uq_agents_peer UNIQUE (peer),
    CONSTRAINT fk_agents_token FOREIGN KEY (token_id) REFERENCES lull.tokens (token_id),
    CONSTRAINT ck_agents_intake CHECK (intake IN ('open', 'cordoned', 'draining', 'revoked')),
    CONSTRAINT ck_agents_refused CHECK (results_refused >= 0),
    CONSTRAINT ck_agents_machine CHECK (
        (version IS NULL AND os IS NULL AND arch IS NULL AND cores IS NULL AND memory_bytes IS NULL AND engine IS NULL)
        OR (version IS NOT NULL AND os IS NOT NULL AND arch IS NOT NULL AND cores IS NOT NULL AND memory_bytes IS NOT NULL
            AND engine IS NOT NULL))
);
GO
CREATE TABLE lull.jobs (
    job_id       bigint NOT NULL,
    name         nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
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
    -- The digest of submitter and idempotency key.
    key_digest   binary(32) NULL,
    -- The input pack, if the inputs are one.
    pack_digest  binary(32) NULL,
    spec         nvarchar(max) NOT NULL,
    task_count   int NOT NULL,
    expanded     int NOT NULL,
    succeeded    int NOT NULL,
    failed       int NOT NULL,
    cancelled    int NOT NULL,
    expired      int NOT NULL,
    CONSTRAINT pk_jobs PRIMARY KEY (job_id),
    CONSTRAINT fk_jobs_version FOREIGN KEY (version_id) REFERENCES lull.versions (version_id),
    CONSTRAINT ck_jobs_state CHECK (state IN ('active', 'succeeded', 'failed', 'cancelled', 'expired')),
    CONSTRAINT ck_jobs_stopping CHECK (stopping IN ('succeeded', 'failed', 'cancelled', 'expired')),
    CONSTRAINT ck_jobs_ended CHECK ((state = 'active' AND ended_us IS NULL) OR (state <> 'active' AND ended_us IS NOT NULL)),
    CONSTRAINT ck_jobs_stopped CHECK (
        (stopping IS NULL AND stopped_by IS NULL AND stopped_us IS NULL)
        OR (stopping IS NOT NULL AND stopped_by IS NOT NULL AND stopped_us IS NOT NULL)),
    CONSTRAINT ck_jobs_expanded CHECK (task_count >= 0 AND expanded >= 0 AND expanded <= task_count),
    CONSTRAINT ck_jobs_counts CHECK (succeeded >= 0 AND failed >= 0 AND cancelled >= 0 AND expired >= 0
        AND succeeded + failed + cancelled + expired <= expanded),
    -- A job cannot end while a task of it is open.
    CONSTRAINT ck_jobs_nothing_lost CHECK (state = 'active'
        OR (succeeded + failed + cancelled + expired = expanded AND (expanded = task_count OR stopping IS NOT NULL)))
);
GO
CREATE UNIQUE INDEX uq_jobs_key ON lull.jobs (key_digest) WHERE key_digest IS NOT NULL;
GO
CREATE INDEX ix_jobs_active ON lull.jobs (job_id) WHERE ended_us IS NULL;
GO
CREATE INDEX ix_jobs_submitter ON lull.jobs (submitter, job_id);
GO
CREATE INDEX ix_jobs_version ON lull.jobs (version_id);
GO
CREATE INDEX ix_jobs_pack ON lull.jobs (pack_digest) WHERE pack_digest IS NOT NULL;
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
    CONSTRAINT pk_tasks PRIMARY KEY (job_id, task_index),
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
CREATE INDEX ix_tasks_open ON lull.tasks (job_id, state, task_index) WHERE ended_us IS NULL;
GO
CREATE TABLE lull.attempts (
    job_id            bigint NOT NULL,
    task_index        int NOT NULL,
    number            int NOT NULL,
    agent_id          bigint NOT NULL,
    started_us        bigint NOT NULL,
    -- As JSON, while it is paused.
    pause             nvarchar(max) NULL,
    ended_us          bigint NULL,
    outcome           varchar(16) NULL,
    reason            nvarchar(2000) NULL,
    failure_kind      varchar(32) NULL,
    failure           nvarchar(max) NULL,
    wall_us           bigint NULL,
    cpu_us            bigint NULL,
    memory_peak_bytes bigint NULL,
    CONSTRAINT pk_attempts PRIMARY KEY (job_id, task_index, number),
    CONSTRAINT fk_attempts_task FOREIGN KEY (job_id, task_index) REFERENCES lull.tasks (job_id, task_index),
    CONSTRAINT fk_attempts_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_attempts_number CHECK (number >= 1),
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
-- Of each task at most one attempt is live.
CREATE UNIQUE INDEX uq_attempts_live ON lull.attempts (job_id, task_index) WHERE ended_us IS NULL;
GO
-- A task's output: bytes here or a blob. At most one, so a task is completed once.
CREATE TABLE lull.results (
    job_id      bigint NOT NULL,
    task_index  int NOT NULL,
    number      int NOT NULL,
    size_bytes  bigint NOT NULL,
    output      varbinary(max) NULL,
    blob_digest binary(32) NULL,
    CONSTRAINT pk_results PRIMARY KEY (job_id, task_index),
    CONSTRAINT fk_results_attempt FOREIGN KEY (job_id, task_index, number)
        REFERENCES lull.attempts (job_id, task_index, number),
    CONSTRAINT ck_results_one CHECK (
        (output IS NULL AND blob_digest IS NOT NULL) OR (output IS NOT NULL AND blob_digest IS NULL)),
    CONSTRAINT ck_results_size CHECK (size_bytes >= 0 AND (output IS NULL OR DATALENGTH(output) = size_bytes))
);
GO
CREATE INDEX ix_results_blob ON lull.results (blob_digest) WHERE blob_digest IS NOT NULL;
GO
CREATE TABLE lull.logs (
    job_id        bigint NOT NULL,
    task_index    int NOT NULL,
    number        int NOT NULL,
    log           varbinary(max) NOT NULL,
    dropped_bytes bigint NOT NULL,
    CONSTRAINT pk_logs PRIMARY KEY (job_id, task_index, number),
    CONSTRAINT fk_logs_attempt FOREIGN KEY (job_id, task_index, number)
        REFERENCES lull.attempts (job_id, task_index, number),
    CONSTRAINT ck_logs_dropped CHECK (dropped_bytes >= 0)
);
GO
-- Slot time by job and hour since 1970, counted when an attempt ends: fair share after a restart, and reports.
CREATE TABLE lull.usage_hours (
    hour    bigint NOT NULL,
    job_id  bigint NOT NULL,
    slot_us bigint NOT NULL,
    CONSTRAINT pk_usage_hours PRIMARY KEY (hour, job_id),
    CONSTRAINT fk_usage_hours_job FOREIGN KEY (job_id) REFERENCES lull.jobs (job_id),
    CONSTRAINT ck_usage_hours_slot CHECK (slot_us >= 0)
);
GO
CREATE TABLE lull.audit (
    audit_id bigint IDENTITY (1, 1) NOT NULL,
    at_us    bigint NOT NULL,
    by_whom  nvarchar(256) NOT NULL,
    action   varchar(32) NOT NULL,
    subject  nvarchar(256) NOT NULL,
    detail   nvarchar(2000) NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (audit_id)
);
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
CREATE UNIQUE INDEX uq_blobs_digest ON lull.blobs (digest) WHERE digest IS NOT NULL;
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
CREATE INDEX ix_blob_links_digest ON lull.blob_links (digest);
GO
-- For people ---------------------------------------------------------------------------------------------------------

-- Microseconds since 1970 as a time; NULL beyond the years that datetime2 knows.
CREATE FUNCTION lull.utc (@us bigint)
RETURNS datetime2(6)
AS
BEGIN
    RETURN CASE
        WHEN @us IS NULL OR @us < -62135596800000000 OR @us > 253402300799999999 THEN NULL
        ELSE DATEADD(microsecond, CAST(@us % 1000000 AS int),
            DATEADD(second, CAST((@us / 1000000) % 86400 AS int),
                DATEADD(day, CAST(@us / 86400000000 AS int), CAST('1970-01-01T00:00:00' AS datetime2(6)))))
    END;
END;
GO
CREATE VIEW lull.job_progress AS
SELECT jobs.job_id, jobs.name, jobs.submitter, jobs.version_name, jobs.priority, jobs.state, jobs.stopping, jobs.task_count,
    CASE WHEN jobs.stopping IS NULL THEN jobs.task_count - jobs.expanded ELSE 0 END AS never_started,
    jobs.expanded - jobs.succeeded - jobs.failed - jobs.cancelled - jobs.expired AS open_tasks,
    jobs.succeeded, jobs.failed,
    jobs.cancelled + CASE WHEN jobs.stopping <> 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS cancelled,
    jobs.expired + CASE WHEN jobs.stopping = 'expired' THEN jobs.task_count - jobs.expanded ELSE 0 END AS expired,
    lull.utc(jobs.submitted_us) AS submitted_at,
    lull.utc(jobs.ended_us) AS ended_at
FROM lull.jobs AS jobs;
GO
CREATE VIEW lull.attempt_list AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter,
    attempts.agent_id, agents.name AS agent_name, COALESCE(attempts.outcome, 'live') AS outcome,
    attempts.reason, attempts.failure_kind, attempts.pause,
    attempts.wall_us / 1000000.0 AS wall_s, attempts.cpu_us / 1000000.0 AS cpu_s, attempts.memory_peak_bytes,
    lull.utc(attempts.started_us) AS started_at,
    lull.utc(attempts.ended_us) AS ended_at
FROM lull.attempts AS attempts
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id;
GO
-- Tasks that were started at least once.
CREATE VIEW lull.task_list AS
SELECT tasks.job_id, tasks.task_index, jobs.name AS job_name, jobs.submitter, tasks.state, tasks.attempts, tasks.failures,
    attempts.agent_id, agents.name AS agent_name, results.size_bytes AS output_bytes,
    lull.utc(attempts.started_us) AS started_at,
    lull.utc(tasks.not_before_us) AS not_before,
    lull.utc(tasks.ended_us) AS ended_at
FROM lull.tasks AS tasks
INNER JOIN lull.jobs AS jobs ON jobs.job_id = tasks.job_id
INNER JOIN lull.attempts AS attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
    AND attempts.number = tasks.attempts
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
LEFT JOIN lull.results AS results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index;
GO
CREATE VIEW lull.failures AS
SELECT attempts.job_id, attempts.task_index, attempts.number, jobs.name AS job_name, jobs.submitter, jobs.version_name,
    agents.name AS agent_name, attempts.failure_kind, attempts.reason,
    lull.utc(attempts.ended_us) AS ended_at
FROM lull.attempts AS attempts
INNER JOIN lull.jobs AS jobs ON jobs.job_id = attempts.job_id
INNER JOIN lull.agents AS agents ON agents.agent_id = attempts.agent_id
WHERE attempts.outcome = 'failed';
GO
CREATE VIEW lull.agent_list AS
SELECT agents.agent_id, agents.name, agents.intake, agents.version, agents.os, agents.arch, agents.cores, agents.memory_bytes,
    agents.labels, agents.results_refused,
    (SELECT COUNT(*) FROM lull.tasks AS tasks WHERE tasks.ended_us IS NULL AND tasks.agent_id = agents.agent_id) AS attempts_live,
    lull.utc(agents.enrolled_us) AS enrolled_at,
    lull.utc(agents.last_connected_us) AS last_connected_at,
    lull.utc(agents.last_disconnected_us) AS last_disconnected_at
FROM lull.agents AS agents;
GO
-- What each agent gave, by the day on which its attempts ended.
CREATE VIEW lull.agent_hours AS
SELECT agents.agent_id, agents.name AS agent_name,
    CAST(DATEADD(day, CAST(days.day_number AS int), CAST('1970-01-01T00:00:00' AS datetime2(6))) AS date) AS day,
    days.attempts, days.succeeded, days.failed, days.moved,
    days.slot_us / 3600000000.0 AS slot_hours,
    days.cpu_us / 3600000000.0 AS cpu_hours
FROM (
    SELECT attempts.agent_id, attempts.ended_us / 86400000000 AS day_number, COUNT(*) AS attempts,
        SUM(CASE WHEN attempts.outcome = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
        SUM(CASE WHEN attempts.outcome = 'failed' THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN attempts.outcome IN ('evicted', 'recalled', 'lost') THEN 1 ELSE 0 END) AS moved,
        SUM(CAST(attempts.ended_us - attempts.started_us AS decimal(38, 0))) AS slot_us,
        SUM(CAST(attempts.cpu_us AS decimal(38, 0))) AS cpu_us
    FROM lull.attempts AS attempts
    WHERE attempts.ended_us IS NOT NULL
    GROUP BY attempts.agent_id, attempts.ended_us / 86400000000
) AS days
INNER JOIN lull.agents AS agents ON agents.agent_id = days.agent_id;
GO
CREATE VIEW lull.daily_usage AS
SELECT days.submitter,
    CAST(DATEADD(day, CAST(days.day_number AS int), CAST('1970-01-01T00:00:00' AS datetime2(6))) AS date) AS day,
    days.jobs,
    days.slot_us / 3600000000.0 AS slot_hours
FROM (
    SELECT jobs.submitter, usage_hours.hour / 24 AS day_number, COUNT(DISTINCT jobs.job_id) AS jobs,
        SUM(CAST(usage_hours.slot_us AS decimal(38, 0))) AS slot_us
    FROM lull.usage_hours AS usage_hours
    INNER JOIN lull.jobs AS jobs ON jobs.job_id = usage_hours.job_id
    GROUP BY jobs.submitter, usage_hours.hour / 24
) AS days;
GO
CREATE VIEW lull.version_list AS
SELECT versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_bytes,
    LOWER(CONVERT(varchar(64), versions.module_digest, 2)) AS module_digest, versions.published_by,
    lull.utc(versions.published_us) AS published_at,
    lull.utc(versions.removed_us) AS removed_at
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id;
GO
CREATE VIEW lull.audit_list AS
SELECT audit.audit_id, lull.utc(audit.at_us) AS happened_at, audit.by_whom, audit.action, audit.subject, audit.detail
FROM lull.audit AS audit;
