-- One turn. @P2: its rows as JSON. @P3: the bytes that they point into, by offset and length.
DECLARE @jobs TABLE (
    job_id bigint NOT NULL PRIMARY KEY, retried_us bigint NULL, finish_by_us bigint NULL, started int NOT NULL, expanded int NOT NULL,
    succeeded int NOT NULL, failed int NOT NULL, cancelled int NOT NULL, expired int NOT NULL,
    state varchar(16) NULL, ended_us bigint NULL,
    stop_changes bit NOT NULL, stopping varchar(16) NULL, stopped_by nvarchar(256) NULL, stopped_us bigint NULL);
DECLARE @tasks TABLE (
    job_id bigint NOT NULL, task_index int NOT NULL, absent bit NOT NULL, attempts_before int NULL, attempts_least int NULL,
    agent_before bit NOT NULL,
    state varchar(16) NOT NULL, attempts int NULL, failures int NULL, failures_added int NOT NULL, keeps_agent bit NOT NULL,
    agent_id bigint NULL, not_before_us bigint NULL, ended_us bigint NULL, PRIMARY KEY (job_id, task_index));
DECLARE @attempts TABLE (
    job_id bigint NOT NULL, task_index int NOT NULL, number int NOT NULL, agent_id bigint NULL, started_us bigint NULL,
    pause nvarchar(max) NULL, ended_us bigint NULL, outcome varchar(16) NULL, reason nvarchar(2000) NULL,
    failure_kind varchar(32) NULL, failure nvarchar(max) NULL, wall_us bigint NULL, cpu_us bigint NULL,
    memory_peak_bytes bigint NULL, build varchar(16) NULL, resumed_bytes bigint NULL, resumed_spent_us bigint NULL,
    cause nvarchar(2000) NULL, slot_us bigint NULL, PRIMARY KEY (job_id, task_index, number));
DECLARE @changed int = 0;

INSERT INTO @jobs (job_id, retried_us, finish_by_us, started, expanded, succeeded, failed, cancelled, expired, state, ended_us,
    stop_changes, stopping, stopped_by, stopped_us)
SELECT item.job_id, item.retried_us, item.finish_by_us, item.started, item.expanded, item.succeeded, item.failed, item.cancelled, item.expired,
    item.state, item.ended_us, item.stop_changes, item.stopping, item.stopped_by, item.stopped_us
FROM OPENJSON(@P2, '$.jobs') WITH (
    job_id bigint '$.j', retried_us bigint '$.r', finish_by_us bigint '$.fb', started int '$.n', expanded int '$.x',
    succeeded int '$.s', failed int '$.f', cancelled int '$.c', expired int '$.e',
    state varchar(16) '$.st', ended_us bigint '$.at',
    stop_changes bit '$.sc', stopping varchar(16) '$.ss', stopped_by nvarchar(256) '$.sb', stopped_us bigint '$.sa') AS item;

INSERT INTO @tasks (job_id, task_index, absent, attempts_before, attempts_least, agent_before, state, attempts, failures, failures_added,
    keeps_agent, agent_id, not_before_us, ended_us)
SELECT item.job_id, item.task_index, item.absent, item.attempts_before, item.attempts_least, item.agent_before, item.state, item.attempts,
    item.failures, item.failures_added, item.keeps_agent, item.agent_id, item.not_before_us, item.ended_us
FROM OPENJSON(@P2, '$.tasks') WITH (
    job_id bigint '$.j', task_index int '$.i', absent bit '$.new', attempts_before int '$.nb', attempts_least int '$.nl', agent_before bit '$.ab',
    state varchar(16) '$.st', attempts int '$.n', failures int '$.f', failures_added int '$.fa', keeps_agent bit '$.k',
    agent_id bigint '$.a', not_before_us bigint '$.w', ended_us bigint '$.e') AS item;

INSERT INTO @attempts (job_id, task_index, number, agent_id, started_us, pause, ended_us, outcome, reason, failure_kind,
    failure, wall_us, cpu_us, memory_peak_bytes, build, resumed_bytes, resumed_spent_us, cause, slot_us)
SELECT item.job_id, item.task_index, item.number, item.agent_id, item.started_us, item.pause, item.ended_us, item.outcome,
    item.reason, item.failure_kind, item.failure, item.wall_us, item.cpu_us, item.memory_peak_bytes, item.build,
    item.resumed_bytes, item.resumed_spent_us, item.cause, item.slot_us
FROM OPENJSON(@P2, '$.attempts') WITH (
    job_id bigint '$.j', task_index int '$.i', number int '$.n', agent_id bigint '$.a', started_us bigint '$.s',
    pause nvarchar(max) '$.p', ended_us bigint '$.e', outcome varchar(16) '$.o', reason nvarchar(2000) '$.r',
    failure_kind varchar(32) '$.k', failure nvarchar(max) '$.f', wall_us bigint '$.w', cpu_us bigint '$.c',
    memory_peak_bytes bigint '$.m', build varchar(16) '$.b', resumed_bytes bigint '$.rb', resumed_spent_us bigint '$.rs',
    cause nvarchar(2000) '$.cs', slot_us bigint '$.su') AS item;

INSERT INTO lull.jobs (job_id, name, submitter, version_id, version_name, priority, state, submitted_us, finish_by_us, seed,
    key_digest, pack_digest, spec, task_count, expanded, succeeded, failed, cancelled, expired, owner_id)
SELECT item.job_id, item.name, item.submitter, item.version_id, item.version_name, item.priority, 'active', item.submitted_us,
    item.finish_by_us, item.seed,
    CASE WHEN item.key_at IS NULL THEN NULL ELSE SUBSTRING(@P3, item.key_at, 32) END,
    CASE WHEN item.pack_at IS NULL THEN NULL ELSE SUBSTRING(@P3, item.pack_at, 32) END,
    item.spec, item.task_count, 0, 0, 0, 0, 0, item.owner_id
FROM OPENJSON(@P2, '$.jobs_new') WITH (
    job_id bigint '$.j', name nvarchar(256) '$.name', submitter nvarchar(256) '$.by', version_id bigint '$.v',
    version_name nvarchar(256) '$.vn', priority int '$.p', submitted_us bigint '$.at', finish_by_us bigint '$.fin',
    seed bigint '$.seed', key_at int '$.key', pack_at int '$.pack', spec nvarchar(max) '$.spec', task_count int '$.n', owner_id bigint '$.o') AS item;

-- A retry first: it concerns what was stored before this turn.
UPDATE tasks
SET state = 'queued', failures = 0, not_before_us = jobs.retried_us, ended_us = NULL
FROM lull.tasks AS tasks
INNER JOIN @jobs AS jobs ON jobs.job_id = tasks.job_id
WHERE jobs.retried_us IS NOT NULL AND tasks.state IN ('failed', 'cancelled', 'expired');

INSERT INTO lull.tasks (job_id, task_index, state, attempts, failures, agent_id, not_before_us, ended_us)
SELECT patch.job_id, patch.task_index, patch.state, patch.attempts, COALESCE(patch.failures, 0) + patch.failures_added,
    patch.agent_id, patch.not_before_us, patch.ended_us
FROM @tasks AS patch
WHERE patch.absent = 1;

UPDATE tasks
SET state = patch.state,
    attempts = COALESCE(patch.attempts, tasks.attempts),
    failures = COALESCE(patch.failures, tasks.failures) + patch.failures_added,
    agent_id = CASE WHEN patch.keeps_agent = 1 THEN tasks.agent_id ELSE patch.agent_id END,
    not_before_us = patch.not_before_us,
    ended_us = patch.ended_us
FROM lull.tasks AS tasks
INNER JOIN @tasks AS patch ON patch.job_id = tasks.job_id AND patch.task_index = tasks.task_index
WHERE patch.absent = 0
    AND tasks.ended_us IS NULL
    AND tasks.attempts = COALESCE(patch.attempts_before, tasks.attempts)
    AND tasks.attempts >= COALESCE(patch.attempts_least, 0)
    AND ((patch.agent_before = 1 AND tasks.agent_id IS NOT NULL) OR (patch.agent_before = 0 AND tasks.agent_id IS NULL));
SET @changed = @@ROWCOUNT;
IF @changed <> (SELECT COUNT(*) FROM @tasks AS patch WHERE patch.absent = 0) SET @outcome = 3;

-- What was live before this turn ends first: of each task at most one attempt is live with one agent.
UPDATE attempts
SET pause = patch.pause, ended_us = patch.ended_us, outcome = patch.outcome, reason = patch.reason,
    failure_kind = patch.failure_kind, failure = patch.failure, wall_us = patch.wall_us, cpu_us = patch.cpu_us,
    memory_peak_bytes = patch.memory_peak_bytes, slot_us = patch.slot_us
FROM lull.attempts AS attempts
INNER JOIN @attempts AS patch ON patch.job_id = attempts.job_id AND patch.task_index = attempts.task_index
    AND patch.number = attempts.number
WHERE patch.started_us IS NULL AND attempts.ended_us IS NULL;
SET @changed = @@ROWCOUNT;
IF @changed <> (SELECT COUNT(*) FROM @attempts AS patch WHERE patch.started_us IS NULL) SET @outcome = 4;

INSERT INTO lull.attempts (job_id, task_index, number, agent_id, started_us, pause, ended_us, outcome, reason, failure_kind,
    failure, wall_us, cpu_us, memory_peak_bytes, build, resumed_bytes, resumed_spent_us, cause, slot_us)
SELECT patch.job_id, patch.task_index, patch.number, patch.agent_id, patch.started_us, patch.pause, patch.ended_us,
    patch.outcome, patch.reason, patch.failure_kind, patch.failure, patch.wall_us, patch.cpu_us, patch.memory_peak_bytes,
    patch.build, patch.resumed_bytes, patch.resumed_spent_us, patch.cause, patch.slot_us
FROM @attempts AS patch
WHERE patch.started_us IS NOT NULL;

-- What was kept before the turn goes before anything new is kept.
DELETE answers
FROM lull.answers AS answers
INNER JOIN OPENJSON(@P2, '$.answers_dropped') WITH (job_id bigint '$.j', task_index int '$.i') AS item
    ON item.job_id = answers.job_id AND item.task_index = answers.task_index;
INSERT INTO lull.answers (job_id, task_index, number, digest)
SELECT item.job_id, item.task_index, item.number, SUBSTRING(@P3, item.digest_at, 32)
FROM OPENJSON(@P2, '$.answers') WITH (job_id bigint '$.j', task_index int '$.i', number int '$.n', digest_at int '$.d') AS item;

-- The newest snapshot takes the place of the one before; one without a digest is only deleted.
DELETE snapshots
FROM lull.snapshots AS snapshots
INNER JOIN OPENJSON(@P2, '$.snapshots') WITH (job_id bigint '$.j', task_index int '$.i') AS item
    ON item.job_id = snapshots.job_id AND item.task_index = snapshots.task_index;
INSERT INTO lull.snapshots (job_id, task_index, digest, size_bytes, spent_us, agent_id, saved_us)
SELECT item.job_id, item.task_index, SUBSTRING(@P3, item.digest_at, 32), item.size_bytes, item.spent_us, item.agent_id, item.saved_us
FROM OPENJSON(@P2, '$.snapshots') WITH (
    job_id bigint '$.j', task_index int '$.i', digest_at int '$.d', size_bytes bigint '$.len', spent_us bigint '$.us',
    agent_id bigint '$.a', saved_us bigint '$.at') AS item
WHERE item.digest_at IS NOT NULL;

-- What is known of a machine's hours takes the place of what was known before.
DELETE idle_hours
FROM lull.idle_hours AS idle_hours
INNER JOIN OPENJSON(@P2, '$.hours') WITH (agent_id bigint '$.a') AS item ON item.agent_id = idle_hours.agent_id;
INSERT INTO lull.idle_hours (agent_id, shares, taken, clock_ahead_min, saved_us)
SELECT item.agent_id, SUBSTRING(@P3, item.shares_at, 168), SUBSTRING(@P3, item.taken_at, 168), item.clock_ahead_min, item.saved_us
FROM OPENJSON(@P2, '$.hours') WITH (
    agent_id bigint '$.a', shares_at int '$.h', taken_at int '$.t', clock_ahead_min smallint '$.c', saved_us bigint '$.at') AS item;

UPDATE usage_hours
SET slot_us = usage_hours.slot_us + item.slot_us
FROM lull.usage_hours AS usage_hours
INNER JOIN OPENJSON(@P2, '$.usage') WITH (hour_number bigint '$.h', job_id bigint '$.j', slot_us bigint '$.us') AS item
    ON item.hour_number = usage_hours.hour_number AND item.job_id = usage_hours.job_id;
INSERT INTO lull.usage_hours (hour_number, job_id, slot_us)
SELECT item.hour_number, item.job_id, item.slot_us
FROM OPENJSON(@P2, '$.usage') WITH (hour_number bigint '$.h', job_id bigint '$.j', slot_us bigint '$.us') AS item
WHERE NOT EXISTS (SELECT 1 FROM lull.usage_hours AS known WHERE known.hour_number = item.hour_number AND known.job_id = item.job_id);

UPDATE work_hours
SET attempts = work_hours.attempts + item.attempts, succeeded = work_hours.succeeded + item.succeeded,
    failed = work_hours.failed + item.failed, moved = work_hours.moved + item.moved,
    slot_us = work_hours.slot_us + item.slot_us, cpu_us = work_hours.cpu_us + item.cpu_us
FROM lull.work_hours AS work_hours
INNER JOIN OPENJSON(@P2, '$.work') WITH (
    hour_number bigint '$.h', agent_id bigint '$.a', attempts int '$.n', succeeded int '$.s', failed int '$.f', moved int '$.m',
    slot_us bigint '$.us', cpu_us bigint '$.c') AS item
    ON item.hour_number = work_hours.hour_number AND item.agent_id = work_hours.agent_id;
INSERT INTO lull.work_hours (hour_number, agent_id, attempts, succeeded, failed, moved, slot_us, cpu_us)
SELECT item.hour_number, item.agent_id, item.attempts, item.succeeded, item.failed, item.moved, item.slot_us, item.cpu_us
FROM OPENJSON(@P2, '$.work') WITH (
    hour_number bigint '$.h', agent_id bigint '$.a', attempts int '$.n', succeeded int '$.s', failed int '$.f', moved int '$.m',
    slot_us bigint '$.us', cpu_us bigint '$.c') AS item
WHERE NOT EXISTS (
    SELECT 1 FROM lull.work_hours AS known WHERE known.hour_number = item.hour_number AND known.agent_id = item.agent_id);

UPDATE totals
SET jobs = totals.jobs + item.jobs, tasks_succeeded = totals.tasks_succeeded + item.tasks_succeeded,
    attempts = totals.attempts + item.attempts, attempts_lost = totals.attempts_lost + item.attempts_lost,
    results_refused = totals.results_refused + item.results_refused
FROM lull.totals AS totals
CROSS JOIN OPENJSON(@P2, '$.totals') WITH (
    jobs int '$.j', tasks_succeeded int '$.s', attempts int '$.n', attempts_lost int '$.l', results_refused int '$.r') AS item
WHERE totals.totals_id = 1;

INSERT INTO lull.results (job_id, task_index, number, size_bytes, content, blob_digest)
SELECT item.job_id, item.task_index, item.number, item.size_bytes,
    CASE WHEN item.blob_at IS NOT NULL THEN NULL WHEN item.output_bytes = 0 THEN 0x
        ELSE SUBSTRING(@P3, item.output_at, item.output_bytes) END,
    CASE WHEN item.blob_at IS NULL THEN NULL ELSE SUBSTRING(@P3, item.blob_at, 32) END
FROM OPENJSON(@P2, '$.results') WITH (
    job_id bigint '$.j', task_index int '$.i', number int '$.n', size_bytes bigint '$.len',
    output_at int '$.at', output_bytes int '$.out', blob_at int '$.blob') AS item;

INSERT INTO lull.logs (job_id, task_index, number, log, dropped_bytes)
SELECT item.job_id, item.task_index, item.number,
    CASE WHEN item.size_bytes = 0 THEN 0x ELSE SUBSTRING(@P3, item.log_at, item.size_bytes) END, item.dropped_bytes
FROM OPENJSON(@P2, '$.logs') WITH (
    job_id bigint '$.j', task_index int '$.i', number int '$.n', size_bytes int '$.len', log_at int '$.at',
    dropped_bytes bigint '$.d') AS item;

UPDATE jobs
SET expanded = jobs.expanded + patch.started,
    succeeded = jobs.succeeded + patch.succeeded,
    failed = CASE WHEN patch.retried_us IS NULL THEN jobs.failed ELSE 0 END + patch.failed,
    cancelled = CASE WHEN patch.retried_us IS NULL THEN jobs.cancelled ELSE 0 END + patch.cancelled,
    expired = CASE WHEN patch.retried_us IS NULL THEN jobs.expired ELSE 0 END + patch.expired,
    finish_by_us = COALESCE(patch.finish_by_us, jobs.finish_by_us),
    state = COALESCE(patch.state, jobs.state),
    ended_us = CASE WHEN patch.state IS NULL THEN jobs.ended_us ELSE patch.ended_us END,
    stopping = CASE WHEN patch.stop_changes = 1 THEN patch.stopping ELSE jobs.stopping END,
    stopped_by = CASE WHEN patch.stop_changes = 1 THEN patch.stopped_by ELSE jobs.stopped_by END,
    stopped_us = CASE WHEN patch.stop_changes = 1 THEN patch.stopped_us ELSE jobs.stopped_us END
FROM lull.jobs AS jobs
INNER JOIN @jobs AS patch ON patch.job_id = jobs.job_id
WHERE patch.started = 0 OR jobs.expanded + patch.started = patch.expanded;
SET @changed = @@ROWCOUNT;
IF @changed <> (SELECT COUNT(*) FROM @jobs AS patch) SET @outcome = 5;

UPDATE agents
SET last_connected_us = COALESCE(patch.connected_us, agents.last_connected_us),
    version = CASE WHEN patch.connected_us IS NULL THEN agents.version ELSE patch.version END,
    os = CASE WHEN patch.connected_us IS NULL THEN agents.os ELSE patch.os END,
    arch = CASE WHEN patch.connected_us IS NULL THEN agents.arch ELSE patch.arch END,
    cores = CASE WHEN patch.connected_us IS NULL THEN agents.cores ELSE patch.cores END,
    memory_bytes = CASE WHEN patch.connected_us IS NULL THEN agents.memory_bytes ELSE patch.memory_bytes END,
    engine = CASE WHEN patch.connected_us IS NULL THEN agents.engine ELSE patch.engine END,
    labels = CASE WHEN patch.connected_us IS NULL THEN agents.labels ELSE patch.labels END,
    last_disconnected_us = COALESCE(patch.disconnected_us, agents.last_disconnected_us),
    intake = COALESCE(patch.intake, agents.intake),
    results_refused = agents.results_refused + patch.results_refused,
    quarantined_us = CASE WHEN patch.quarantine_changes = 1 THEN patch.quarantined_us ELSE agents.quarantined_us END,
    quarantine_reason = CASE WHEN patch.quarantine_changes = 1 THEN patch.quarantine_reason ELSE agents.quarantine_reason END,
    quarantine_kind = CASE WHEN patch.quarantine_changes = 1 THEN patch.quarantine_kind ELSE agents.quarantine_kind END
FROM lull.agents AS agents
INNER JOIN OPENJSON(@P2, '$.agents') WITH (
    agent_id bigint '$.a', connected_us bigint '$.c', version nvarchar(256) '$.v', os nvarchar(64) '$.os',
    arch nvarchar(64) '$.arch', cores int '$.n', memory_bytes bigint '$.m', engine nvarchar(256) '$.e',
    labels nvarchar(max) '$.l', disconnected_us bigint '$.d', intake varchar(16) '$.i',
    results_refused int '$.r', quarantine_changes bit '$.qc', quarantined_us bigint '$.q',
    quarantine_reason nvarchar(2000) '$.qr', quarantine_kind varchar(16) '$.qk') AS patch ON patch.agent_id = agents.agent_id;
SET @changed = @@ROWCOUNT;
IF @changed <> (SELECT COUNT(*) FROM OPENJSON(@P2, '$.agents')) SET @outcome = 6;

-- 0, unless it changes who is thrown out.
DECLARE @revocations bigint = CAST(JSON_VALUE(@P2, '$.revocations') AS bigint);
IF @revocations > 0 UPDATE lull.leader SET revocations = revocations + @revocations WHERE leader_id = 1;

INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
SELECT item.at_us, item.by_whom, item.operation, item.subject, item.detail
FROM OPENJSON(@P2, '$.audit') WITH (
    position int '$.n', at_us bigint '$.at', by_whom nvarchar(256) '$.by', operation varchar(32) '$.do',
    subject nvarchar(256) '$.s', detail nvarchar(2000) '$.d') AS item
ORDER BY item.position;
