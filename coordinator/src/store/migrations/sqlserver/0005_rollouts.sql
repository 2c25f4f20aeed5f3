-- How agents become another version: of each platform the rollout with the highest number holds.
CREATE TABLE lull.rollouts (
    number         bigint NOT NULL,
    platform       varchar(16) NOT NULL,
    version        nvarchar(256) NOT NULL,
    package_digest binary(32) NOT NULL,
    package_bytes  bigint NOT NULL,
    -- The network's word for it, and the signature.
    release_body   varbinary(max) NOT NULL,
    release_sign   varbinary(max) NOT NULL,
    expires_us     bigint NOT NULL,
    -- Waves, conditions and patience.
    plan_text      nvarchar(max) NOT NULL,
    waves_begun    int NOT NULL,
    -- Failures that somebody has seen and gone on after.
    forgiven       int NOT NULL,
    -- Why it stands still; NULL: it goes on.
    stopped        nvarchar(2000) NULL,
    begun_us       bigint NOT NULL,
    begun_by       nvarchar(256) NOT NULL,
    CONSTRAINT pk_rollouts PRIMARY KEY (number),
    CONSTRAINT ck_rollouts_number CHECK (number > 0),
    CONSTRAINT ck_rollouts_platform CHECK (platform IN ('deb_amd64', 'msi_x64')),
    CONSTRAINT ck_rollouts_bytes CHECK (package_bytes > 0),
    CONSTRAINT ck_rollouts_plan CHECK (ISJSON(plan_text) = 1),
    CONSTRAINT ck_rollouts_waves CHECK (waves_begun >= 0),
    CONSTRAINT ck_rollouts_forgiven CHECK (forgiven >= 0)
);
GO
CREATE INDEX ix_rollouts_platform ON lull.rollouts (platform, number);
GO
CREATE INDEX ix_rollouts_package ON lull.rollouts (package_digest);
GO
-- How far each agent is that was told of one.
CREATE TABLE lull.rollout_agents (
    number     bigint NOT NULL,
    agent_id   bigint NOT NULL,
    step       varchar(16) NOT NULL,
    reason     nvarchar(2000) NULL,
    changed_us bigint NOT NULL,
    CONSTRAINT pk_rollout_agents PRIMARY KEY (number, agent_id),
    CONSTRAINT fk_rollout_agents_rollout FOREIGN KEY (number) REFERENCES lull.rollouts (number),
    CONSTRAINT fk_rollout_agents_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_rollout_agents_step CHECK (step IN ('waiting', 'told', 'given', 'back', 'healthy', 'refused', 'failed')),
    CONSTRAINT ck_rollout_agents_reason CHECK (
        (reason IS NOT NULL AND step IN ('refused', 'failed')) OR (reason IS NULL AND step NOT IN ('refused', 'failed')))
);
GO
CREATE INDEX ix_rollout_agents_agent ON lull.rollout_agents (agent_id);
GO
CREATE VIEW lull.rollout_list AS
SELECT rollouts.number, rollouts.platform, rollouts.version, rollouts.stopped, rollouts.begun_us, rollouts.begun_by,
    rollout_agents.agent_id, agents.name AS agent_name, rollout_agents.step, rollout_agents.reason, rollout_agents.changed_us,
    begun.moment AS begun_at, changed.moment AS changed_at
FROM lull.rollouts AS rollouts
LEFT JOIN lull.rollout_agents AS rollout_agents ON rollout_agents.number = rollouts.number
LEFT JOIN lull.agents AS agents ON agents.agent_id = rollout_agents.agent_id
CROSS APPLY lull.utc(rollouts.begun_us) AS begun
CROSS APPLY lull.utc(rollout_agents.changed_us) AS changed;
