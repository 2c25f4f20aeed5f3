-- What a turn of the scheduler writes, as a procedure: its text is sent once and not with every turn.
--
-- Each table of changes is a parameter of its own, NULL if there are none, so that each is read once: a JSON array of rows,
-- each an array of cells in the order of the columns. Bytes lie one after the other in @bytes; two cells tell where (from 1
-- on) and how many. OPENJSON reads an array of arrays like one of objects, a path like '$[0]' being an element of the row:
-- https://learn.microsoft.com/sql/t-sql/functions/openjson-transact-sql
-- https://learn.microsoft.com/sql/relational-databases/json/json-path-expressions-sql-server
-- What is read twice goes into a temporary table, which a procedure keeps for its next call, and which has statistics:
-- https://learn.microsoft.com/sql/t-sql/statements/create-table-transact-sql#temporary-tables
-- Its texts have the database's collation, since those of tempdb may have another.

CREATE PROCEDURE lull.take_turn
    @lead nvarchar(max), @bytes varbinary(max), @revocations bigint,
    @jobs_new nvarchar(max), @jobs nvarchar(max), @tasks nvarchar(max), @attempts nvarchar(max), @results nvarchar(max),
    @answers_dropped nvarchar(max), @answers nvarchar(max), @snapshots nvarchar(max), @logs nvarchar(max),
    @idle_hours nvarchar(max), @usage_hours nvarchar(max), @work_hours nvarchar(max), @totals nvarchar(max),
    @agents nvarchar(max), @audit nvarchar(max)
AS
BEGIN
SET XACT_ABORT ON;
SET NOCOUNT ON;
-- 0: done. 1: the leader's row does not let it through. 2: not as it was when it was read. 3 and more: the changes
-- contradict the rows.
DECLARE @outcome int = 0;
DECLARE @result bigint = NULL;
-- @lead is what every write shows, in one value: the lead, the writes that the store has at least, and of the scheduler's
-- turn the number of turns before it.
DECLARE @own_term bigint = CAST(JSON_VALUE(@lead, '$.term') AS bigint);
DECLARE @own_holder nvarchar(256) = JSON_VALUE(@lead, '$.holder');
DECLARE @writes_known bigint = CAST(JSON_VALUE(@lead, '$.writes') AS bigint);
DECLARE @turns_before bigint = CAST(JSON_VALUE(@lead, '$.turns') AS bigint);
DECLARE @term bigint, @holder nvarchar(256), @lease_end_us bigint, @writes bigint, @turns bigint;
BEGIN TRANSACTION;
-- Changing this row makes writers come one after the other, and the lead hold until the commit.
UPDATE lull.leader
SET writes = writes + 1, turns = turns + CASE WHEN @turns_before IS NULL THEN 0 ELSE 1 END
WHERE leader_id = 1 AND term = @own_term AND holder = @own_holder AND writes >= @writes_known
    AND turns = COALESCE(@turns_before, turns);
IF @@ROWCOUNT <> 1 SET @outcome = 1;
SELECT @term = leader.term, @holder = leader.holder, @lease_end_us = leader.lease_end_us, @writes = leader.writes,
    @turns = leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
IF @outcome = 0
BEGIN
CREATE TABLE #jobs (
    job_id bigint NOT NULL PRIMARY KEY, finish_by_us bigint NULL, started int NOT NULL,
    expanded int NOT NULL, succeeded int NOT NULL, failed int NOT NULL, cancelled int NOT NULL, expired int NOT NULL,
    state varchar(16) COLLATE DATABASE_DEFAULT NULL, ended_us bigint NULL, stop_changes bit NOT NULL,
    stopping varchar(16) COLLATE DATABASE_DEFAULT NULL, stopped_by nvarchar(256) COLLATE DATABASE_DEFAULT NULL,
    stopped_us bigint NULL, retry_changes bit NOT NULL, retry_from int NULL, retry_forgiven int NULL);
CREATE TABLE #tasks (
    job_id bigint NOT NULL, task_index int NOT NULL, absent bit NOT NULL, attempts_before int NULL, attempts_least int NOT NULL,
    agent_before bit NOT NULL, ended_before varchar(16) COLLATE DATABASE_DEFAULT NULL,
    state varchar(16) COLLATE DATABASE_DEFAULT NOT NULL, attempts int NULL, failures int NULL, failures_added int NOT NULL,
    keeps_agent bit NOT NULL, agent_id bigint NULL, not_before_us bigint NULL, ended_us bigint NULL,
    PRIMARY KEY (job_id, task_index));
CREATE TABLE #attempts (
    job_id bigint NOT NULL, task_index int NOT NULL, number int NOT NULL, agent_id bigint NULL, started_us bigint NULL,
    build varchar(16) COLLATE DATABASE_DEFAULT NULL, resumed_bytes bigint NULL, resumed_spent_us bigint NULL,
    cause nvarchar(2000) COLLATE DATABASE_DEFAULT NULL, pause nvarchar(max) COLLATE DATABASE_DEFAULT NULL, ended_us bigint NULL,
    outcome varchar(16) COLLATE DATABASE_DEFAULT NULL, reason nvarchar(2000) COLLATE DATABASE_DEFAULT NULL,
    failure_kind varchar(32) COLLATE DATABASE_DEFAULT NULL, failure nvarchar(max) COLLATE DATABASE_DEFAULT NULL,
    wall_us bigint NULL, cpu_us bigint NULL, memory_peak_bytes bigint NULL, slot_us bigint NULL,
    PRIMARY KEY (job_id, task_index, number));
DECLARE @changed int = 0;

IF @jobs IS NOT NULL
INSERT INTO #jobs (job_id, finish_by_us, started, expanded, succeeded, failed, cancelled, expired, state, ended_us,
    stop_changes, stopping, stopped_by, stopped_us, retry_changes, retry_from, retry_forgiven)
SELECT item.job_id, item.finish_by_us, item.started, item.expanded, item.succeeded, item.failed, item.cancelled, item.expired,
    item.state, item.ended_us, item.stop_changes, item.stopping, item.stopped_by, item.stopped_us, item.retry_changes,
    item.retry_from, item.retry_forgiven
FROM OPENJSON(@jobs) WITH (
    job_id bigint '$[0]', finish_by_us bigint '$[1]', started int '$[2]', expanded int '$[3]', succeeded int '$[4]',
    failed int '$[5]', cancelled int '$[6]', expired int '$[7]', state varchar(16) '$[8]', ended_us bigint '$[9]',
    stop_changes bit '$[10]', stopping varchar(16) '$[11]', stopped_by nvarchar(256) '$[12]', stopped_us bigint '$[13]',
    retry_changes bit '$[14]', retry_from int '$[15]', retry_forgiven int '$[16]') AS item;

IF @tasks IS NOT NULL
INSERT INTO #tasks (job_id, task_index, absent, attempts_before, attempts_least, agent_before, ended_before, state, attempts,
    failures, failures_added, keeps_agent, agent_id, not_before_us, ended_us)
SELECT item.job_id, item.task_index, item.absent, item.attempts_before, item.attempts_least, item.agent_before, item.ended_before,
    item.state, item.attempts, item.failures, item.failures_added, item.keeps_agent, item.agent_id, item.not_before_us,
    item.ended_us
FROM OPENJSON(@tasks) WITH (
    job_id bigint '$[0]', task_index int '$[1]', absent bit '$[2]', attempts_before int '$[3]', attempts_least int '$[4]',
    agent_before bit '$[5]', ended_before varchar(16) '$[6]', state varchar(16) '$[7]', attempts int '$[8]', failures int '$[9]',
    failures_added int '$[10]', keeps_agent bit '$[11]', agent_id bigint '$[12]', not_before_us bigint '$[13]',
    ended_us bigint '$[14]') AS item;

IF @attempts IS NOT NULL
INSERT INTO #attempts (job_id, task_index, number, agent_id, started_us, build, resumed_bytes, resumed_spent_us, cause, pause,
    ended_us, outcome, reason, failure_kind, failure, wall_us, cpu_us, memory_peak_bytes, slot_us)
SELECT item.job_id, item.task_index, item.number, item.agent_id, item.started_us, item.build, item.resumed_bytes,
    item.resumed_spent_us, item.cause, item.pause, item.ended_us, item.outcome, item.reason, item.failure_kind, item.failure,
    item.wall_us, item.cpu_us, item.memory_peak_bytes, item.slot_us
FROM OPENJSON(@attempts) WITH (
    job_id bigint '$[0]', task_index int '$[1]', number int '$[2]', agent_id bigint '$[3]', started_us bigint '$[4]',
    build varchar(16) '$[5]', resumed_bytes bigint '$[6]', resumed_spent_us bigint '$[7]', cause nvarchar(2000) '$[8]',
    pause nvarchar(max) '$[9]', ended_us bigint '$[10]', outcome varchar(16) '$[11]', reason nvarchar(2000) '$[12]',
    failure_kind varchar(32) '$[13]', failure nvarchar(max) '$[14]', wall_us bigint '$[15]', cpu_us bigint '$[16]',
    memory_peak_bytes bigint '$[17]', slot_us bigint '$[18]') AS item;

IF @jobs_new IS NOT NULL
INSERT INTO lull.jobs (job_id, name, submitter, version_id, version_name, priority, state, submitted_us, finish_by_us, seed,
    key_digest, pack_digest, spec, task_count, expanded, succeeded, failed, cancelled, expired, owner_id)
SELECT item.job_id, item.name, item.submitter, item.version_id, item.version_name, item.priority, 'active', item.submitted_us,
    item.finish_by_us, item.seed, SUBSTRING(@bytes, item.key_digest_at, item.key_digest_bytes),
    SUBSTRING(@bytes, item.pack_digest_at, item.pack_digest_bytes), item.spec, item.task_count, 0, 0, 0, 0, 0, item.owner_id
FROM OPENJSON(@jobs_new) WITH (
    job_id bigint '$[0]', owner_id bigint '$[1]', name nvarchar(256) '$[2]', submitter nvarchar(256) '$[3]',
    version_id bigint '$[4]', version_name nvarchar(256) '$[5]', priority int '$[6]', submitted_us bigint '$[7]',
    finish_by_us bigint '$[8]', seed bigint '$[9]', key_digest_at int '$[10]', key_digest_bytes int '$[11]',
    pack_digest_at int '$[12]', pack_digest_bytes int '$[13]', spec nvarchar(max) '$[14]', task_count int '$[15]') AS item;

IF @tasks IS NOT NULL
BEGIN
    INSERT INTO lull.tasks (job_id, task_index, state, attempts, failures, agent_id, not_before_us, ended_us)
    SELECT patch.job_id, patch.task_index, patch.state, patch.attempts, COALESCE(patch.failures, 0) + patch.failures_added,
        patch.agent_id, patch.not_before_us, patch.ended_us
    FROM #tasks AS patch
    WHERE patch.absent = 1;
    UPDATE tasks
    SET state = patch.state,
        attempts = COALESCE(patch.attempts, tasks.attempts),
        failures = COALESCE(patch.failures, tasks.failures) + patch.failures_added,
        agent_id = CASE WHEN patch.keeps_agent = 1 THEN tasks.agent_id ELSE patch.agent_id END,
        not_before_us = patch.not_before_us,
        ended_us = patch.ended_us
    FROM lull.tasks AS tasks
    INNER JOIN #tasks AS patch ON patch.job_id = tasks.job_id AND patch.task_index = tasks.task_index
    WHERE patch.absent = 0
        AND ((patch.ended_before IS NULL AND tasks.ended_us IS NULL) OR patch.ended_before = tasks.state)
        AND tasks.attempts = COALESCE(patch.attempts_before, tasks.attempts)
        AND tasks.attempts >= patch.attempts_least
        AND ((patch.agent_before = 1 AND tasks.agent_id IS NOT NULL) OR (patch.agent_before = 0 AND tasks.agent_id IS NULL));
    SET @changed = @@ROWCOUNT;
    IF @changed <> (SELECT COUNT(*) FROM #tasks AS patch WHERE patch.absent = 0) SET @outcome = 3;
END;

IF @attempts IS NOT NULL
BEGIN
    -- What was live before this turn ends first: of each task at most one attempt is live with one agent.
    UPDATE attempts
    SET pause = patch.pause, ended_us = patch.ended_us, outcome = patch.outcome, reason = patch.reason,
        failure_kind = patch.failure_kind, failure = patch.failure, wall_us = patch.wall_us, cpu_us = patch.cpu_us,
        memory_peak_bytes = patch.memory_peak_bytes, slot_us = patch.slot_us
    FROM lull.attempts AS attempts
    INNER JOIN #attempts AS patch ON patch.job_id = attempts.job_id AND patch.task_index = attempts.task_index
        AND patch.number = attempts.number
    WHERE patch.started_us IS NULL AND attempts.ended_us IS NULL;
    SET @changed = @@ROWCOUNT;
    IF @changed <> (SELECT COUNT(*) FROM #attempts AS patch WHERE patch.started_us IS NULL) SET @outcome = 4;
    INSERT INTO lull.attempts (job_id, task_index, number, agent_id, started_us, build, resumed_bytes, resumed_spent_us, cause,
        pause, ended_us, outcome, reason, failure_kind, failure, wall_us, cpu_us, memory_peak_bytes, slot_us)
    SELECT patch.job_id, patch.task_index, patch.number, patch.agent_id, patch.started_us, patch.build, patch.resumed_bytes,
        patch.resumed_spent_us, patch.cause, patch.pause, patch.ended_us, patch.outcome, patch.reason, patch.failure_kind,
        patch.failure, patch.wall_us, patch.cpu_us, patch.memory_peak_bytes, patch.slot_us
    FROM #attempts AS patch
    WHERE patch.started_us IS NOT NULL;
END;

-- What was kept before the turn goes before anything new is kept.
IF @answers_dropped IS NOT NULL
DELETE answers
FROM lull.answers AS answers
INNER JOIN OPENJSON(@answers_dropped) WITH (
    job_id bigint '$[0]', task_index int '$[1]') AS item
    ON item.job_id = answers.job_id AND item.task_index = answers.task_index;
IF @answers IS NOT NULL
INSERT INTO lull.answers (job_id, task_index, number, digest)
SELECT item.job_id, item.task_index, item.number, SUBSTRING(@bytes, item.digest_at, item.digest_bytes)
FROM OPENJSON(@answers) WITH (
    job_id bigint '$[0]', task_index int '$[1]', number int '$[2]', digest_at int '$[3]', digest_bytes int '$[4]') AS item;

-- The newest snapshot takes the place of the one before; one without a digest is only deleted.
IF @snapshots IS NOT NULL
BEGIN
    CREATE TABLE #snapshots (
        job_id bigint NOT NULL, task_index int NOT NULL, digest_at int NULL, digest_bytes int NULL, size_bytes bigint NULL,
        spent_us bigint NULL, agent_id bigint NULL, saved_us bigint NULL, PRIMARY KEY (job_id, task_index));
    INSERT INTO #snapshots (job_id, task_index, digest_at, digest_bytes, size_bytes, spent_us, agent_id, saved_us)
    SELECT item.job_id, item.task_index, item.digest_at, item.digest_bytes, item.size_bytes, item.spent_us, item.agent_id,
        item.saved_us
    FROM OPENJSON(@snapshots) WITH (
        job_id bigint '$[0]', task_index int '$[1]', digest_at int '$[2]', digest_bytes int '$[3]',
        size_bytes bigint '$[4]', spent_us bigint '$[5]', agent_id bigint '$[6]', saved_us bigint '$[7]') AS item;
    DELETE snapshots
    FROM lull.snapshots AS snapshots
    INNER JOIN #snapshots AS patch ON patch.job_id = snapshots.job_id AND patch.task_index = snapshots.task_index;
    INSERT INTO lull.snapshots (job_id, task_index, digest, size_bytes, spent_us, agent_id, saved_us)
    SELECT patch.job_id, patch.task_index, SUBSTRING(@bytes, patch.digest_at, patch.digest_bytes), patch.size_bytes,
        patch.spent_us, patch.agent_id, patch.saved_us
    FROM #snapshots AS patch
    WHERE patch.digest_at IS NOT NULL;
END;

-- What is known of a machine's hours takes the place of what was known before.
IF @idle_hours IS NOT NULL
BEGIN
    CREATE TABLE #idle_hours (
        agent_id bigint NOT NULL PRIMARY KEY, shares_at int NOT NULL, shares_bytes int NOT NULL, taken_at int NOT NULL,
        taken_bytes int NOT NULL, clock_ahead_min smallint NOT NULL, saved_us bigint NOT NULL);
    INSERT INTO #idle_hours (agent_id, shares_at, shares_bytes, taken_at, taken_bytes, clock_ahead_min, saved_us)
    SELECT item.agent_id, item.shares_at, item.shares_bytes, item.taken_at, item.taken_bytes, item.clock_ahead_min, item.saved_us
    FROM OPENJSON(@idle_hours) WITH (
        agent_id bigint '$[0]', shares_at int '$[1]', shares_bytes int '$[2]', taken_at int '$[3]', taken_bytes int '$[4]',
        clock_ahead_min smallint '$[5]', saved_us bigint '$[6]') AS item;
    DELETE idle_hours
    FROM lull.idle_hours AS idle_hours
    INNER JOIN #idle_hours AS patch ON patch.agent_id = idle_hours.agent_id;
    INSERT INTO lull.idle_hours (agent_id, shares, taken, clock_ahead_min, saved_us)
    SELECT patch.agent_id, SUBSTRING(@bytes, patch.shares_at, patch.shares_bytes),
        SUBSTRING(@bytes, patch.taken_at, patch.taken_bytes), patch.clock_ahead_min, patch.saved_us
    FROM #idle_hours AS patch;
END;

IF @usage_hours IS NOT NULL
BEGIN
    CREATE TABLE #usage_hours (
        hour_number bigint NOT NULL, job_id bigint NOT NULL, slot_us bigint NOT NULL, PRIMARY KEY (hour_number, job_id));
    INSERT INTO #usage_hours (hour_number, job_id, slot_us)
    SELECT item.hour_number, item.job_id, item.slot_us
    FROM OPENJSON(@usage_hours) WITH (
        hour_number bigint '$[0]', job_id bigint '$[1]', slot_us bigint '$[2]') AS item;
    UPDATE usage_hours
    SET slot_us = usage_hours.slot_us + patch.slot_us
    FROM lull.usage_hours AS usage_hours
    INNER JOIN #usage_hours AS patch ON patch.hour_number = usage_hours.hour_number AND patch.job_id = usage_hours.job_id;
    INSERT INTO lull.usage_hours (hour_number, job_id, slot_us)
    SELECT patch.hour_number, patch.job_id, patch.slot_us
    FROM #usage_hours AS patch
    WHERE NOT EXISTS (
        SELECT 1 FROM lull.usage_hours AS known WHERE known.hour_number = patch.hour_number AND known.job_id = patch.job_id);
END;

IF @work_hours IS NOT NULL
BEGIN
    CREATE TABLE #work_hours (
        hour_number bigint NOT NULL, agent_id bigint NOT NULL, attempts int NOT NULL, succeeded int NOT NULL, failed int NOT NULL,
        moved int NOT NULL, slot_us bigint NOT NULL, cpu_us bigint NOT NULL, PRIMARY KEY (hour_number, agent_id));
    INSERT INTO #work_hours (hour_number, agent_id, attempts, succeeded, failed, moved, slot_us, cpu_us)
    SELECT item.hour_number, item.agent_id, item.attempts, item.succeeded, item.failed, item.moved, item.slot_us, item.cpu_us
    FROM OPENJSON(@work_hours) WITH (
        hour_number bigint '$[0]', agent_id bigint '$[1]', attempts int '$[2]', succeeded int '$[3]', failed int '$[4]',
        moved int '$[5]', slot_us bigint '$[6]', cpu_us bigint '$[7]') AS item;
    UPDATE work_hours
    SET attempts = work_hours.attempts + patch.attempts, succeeded = work_hours.succeeded + patch.succeeded,
        failed = work_hours.failed + patch.failed, moved = work_hours.moved + patch.moved,
        slot_us = work_hours.slot_us + patch.slot_us, cpu_us = work_hours.cpu_us + patch.cpu_us
    FROM lull.work_hours AS work_hours
    INNER JOIN #work_hours AS patch ON patch.hour_number = work_hours.hour_number AND patch.agent_id = work_hours.agent_id;
    INSERT INTO lull.work_hours (hour_number, agent_id, attempts, succeeded, failed, moved, slot_us, cpu_us)
    SELECT patch.hour_number, patch.agent_id, patch.attempts, patch.succeeded, patch.failed, patch.moved, patch.slot_us,
        patch.cpu_us
    FROM #work_hours AS patch
    WHERE NOT EXISTS (
        SELECT 1 FROM lull.work_hours AS known WHERE known.hour_number = patch.hour_number AND known.agent_id = patch.agent_id);
END;

IF @totals IS NOT NULL
UPDATE totals
SET jobs = totals.jobs + item.jobs, tasks_succeeded = totals.tasks_succeeded + item.tasks_succeeded,
    attempts = totals.attempts + item.attempts, attempts_lost = totals.attempts_lost + item.attempts_lost,
    results_refused = totals.results_refused + item.results_refused
FROM lull.totals AS totals
CROSS JOIN OPENJSON(@totals) WITH (
    jobs int '$[0]', tasks_succeeded int '$[1]', attempts int '$[2]', attempts_lost int '$[3]', results_refused int '$[4]') AS item
WHERE totals.totals_id = 1;

IF @results IS NOT NULL
INSERT INTO lull.results (job_id, task_index, number, size_bytes, content, blob_digest)
SELECT item.job_id, item.task_index, item.number, item.size_bytes,
    CASE WHEN item.content_bytes = 0 THEN 0x ELSE SUBSTRING(@bytes, item.content_at, item.content_bytes) END,
    SUBSTRING(@bytes, item.blob_digest_at, item.blob_digest_bytes)
FROM OPENJSON(@results) WITH (
    job_id bigint '$[0]', task_index int '$[1]', number int '$[2]', size_bytes bigint '$[3]', content_at int '$[4]',
    content_bytes int '$[5]', blob_digest_at int '$[6]', blob_digest_bytes int '$[7]') AS item;

IF @logs IS NOT NULL
INSERT INTO lull.logs (job_id, task_index, number, log, dropped_bytes)
SELECT item.job_id, item.task_index, item.number,
    CASE WHEN item.log_bytes = 0 THEN 0x ELSE SUBSTRING(@bytes, item.log_at, item.log_bytes) END, item.dropped_bytes
FROM OPENJSON(@logs) WITH (
    job_id bigint '$[0]', task_index int '$[1]', number int '$[2]', log_at int '$[3]', log_bytes int '$[4]',
    dropped_bytes bigint '$[5]') AS item;

IF @jobs IS NOT NULL
BEGIN
    UPDATE jobs
    SET expanded = jobs.expanded + patch.started,
        succeeded = jobs.succeeded + patch.succeeded,
        failed = jobs.failed + patch.failed,
        cancelled = jobs.cancelled + patch.cancelled,
        expired = jobs.expired + patch.expired,
        finish_by_us = COALESCE(patch.finish_by_us, jobs.finish_by_us),
        state = COALESCE(patch.state, jobs.state),
        ended_us = CASE WHEN patch.state IS NULL THEN jobs.ended_us ELSE patch.ended_us END,
        stopping = CASE WHEN patch.stop_changes = 1 THEN patch.stopping ELSE jobs.stopping END,
        stopped_by = CASE WHEN patch.stop_changes = 1 THEN patch.stopped_by ELSE jobs.stopped_by END,
        stopped_us = CASE WHEN patch.stop_changes = 1 THEN patch.stopped_us ELSE jobs.stopped_us END,
        retry_from = CASE WHEN patch.retry_changes = 1 THEN patch.retry_from ELSE jobs.retry_from END,
        retry_forgiven = CASE WHEN patch.retry_changes = 1 THEN patch.retry_forgiven ELSE jobs.retry_forgiven END
    FROM lull.jobs AS jobs
    INNER JOIN #jobs AS patch ON patch.job_id = jobs.job_id
    WHERE patch.started = 0 OR jobs.expanded + patch.started = patch.expanded;
    SET @changed = @@ROWCOUNT;
    IF @changed <> (SELECT COUNT(*) FROM #jobs AS patch) SET @outcome = 5;
END;

IF @agents IS NOT NULL
BEGIN
    CREATE TABLE #agents (
        agent_id bigint NOT NULL PRIMARY KEY, connected_us bigint NULL, version nvarchar(256) COLLATE DATABASE_DEFAULT NULL,
        os nvarchar(64) COLLATE DATABASE_DEFAULT NULL, arch nvarchar(64) COLLATE DATABASE_DEFAULT NULL, cores int NULL,
        memory_bytes bigint NULL, engine nvarchar(256) COLLATE DATABASE_DEFAULT NULL,
        labels nvarchar(max) COLLATE DATABASE_DEFAULT NULL, disconnected_us bigint NULL,
        intake varchar(16) COLLATE DATABASE_DEFAULT NULL, results_refused int NOT NULL, quarantine_changes bit NOT NULL,
        quarantined_us bigint NULL, quarantine_reason nvarchar(2000) COLLATE DATABASE_DEFAULT NULL,
        quarantine_kind varchar(16) COLLATE DATABASE_DEFAULT NULL);
    INSERT INTO #agents (agent_id, connected_us, version, os, arch, cores, memory_bytes, engine, labels, disconnected_us, intake,
        results_refused, quarantine_changes, quarantined_us, quarantine_reason, quarantine_kind)
    SELECT item.agent_id, item.connected_us, item.version, item.os, item.arch, item.cores, item.memory_bytes, item.engine,
        item.labels, item.disconnected_us, item.intake, item.results_refused, item.quarantine_changes, item.quarantined_us,
        item.quarantine_reason, item.quarantine_kind
    FROM OPENJSON(@agents) WITH (
        agent_id bigint '$[0]', connected_us bigint '$[1]', version nvarchar(256) '$[2]', os nvarchar(64) '$[3]',
        arch nvarchar(64) '$[4]', cores int '$[5]', memory_bytes bigint '$[6]', engine nvarchar(256) '$[7]',
        labels nvarchar(max) '$[8]', disconnected_us bigint '$[9]', intake varchar(16) '$[10]',
        results_refused int '$[11]', quarantine_changes bit '$[12]', quarantined_us bigint '$[13]',
        quarantine_reason nvarchar(2000) '$[14]', quarantine_kind varchar(16) '$[15]') AS item;
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
    INNER JOIN #agents AS patch ON patch.agent_id = agents.agent_id;
    SET @changed = @@ROWCOUNT;
    IF @changed <> (SELECT COUNT(*) FROM #agents AS patch) SET @outcome = 6;
END;

-- How often it changes who is thrown out.
IF @revocations > 0 UPDATE lull.leader SET revocations = revocations + @revocations WHERE leader_id = 1;

IF @audit IS NOT NULL
INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
SELECT item.at_us, item.by_whom, item.operation, item.subject, item.detail
FROM OPENJSON(@audit) WITH (
    position int '$[0]', at_us bigint '$[1]', by_whom nvarchar(256) '$[2]', operation varchar(32) '$[3]',
    subject nvarchar(256) '$[4]', detail nvarchar(2000) '$[5]') AS item
ORDER BY item.position;
END;
IF @outcome = 0 COMMIT TRANSACTION; ELSE ROLLBACK TRANSACTION;
SELECT @outcome AS outcome, @result AS result, @term AS term, @holder AS holder, @lease_end_us AS lease_end_us,
    @writes AS writes, @turns AS turns;
END;
