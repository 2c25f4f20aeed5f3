-- How agents become another version: of each platform the rollout with the highest number holds.
CREATE TABLE rollouts (
    number         INTEGER NOT NULL PRIMARY KEY CHECK (number > 0),
    platform       TEXT NOT NULL CHECK (platform IN ('deb_amd64', 'msi_x64')),
    version        TEXT NOT NULL,
    package_digest BLOB NOT NULL CHECK (length(package_digest) = 32),
    package_bytes  INTEGER NOT NULL CHECK (package_bytes > 0),
    -- The network's word for it, and the signature.
    release_body   BLOB NOT NULL,
    release_sign   BLOB NOT NULL,
    expires_us     INTEGER NOT NULL,
    -- Waves, conditions and patience.
    plan_text      TEXT NOT NULL CHECK (json_valid(plan_text)),
    waves_begun    INTEGER NOT NULL CHECK (waves_begun >= 0),
    -- Failures that somebody has seen and gone on after.
    forgiven       INTEGER NOT NULL CHECK (forgiven >= 0),
    -- Why it stands still; NULL: it goes on.
    stopped        TEXT,
    begun_us       INTEGER NOT NULL,
    begun_by       TEXT NOT NULL
) STRICT;
CREATE INDEX rollouts_platform ON rollouts (platform, number);
CREATE INDEX rollouts_package ON rollouts (package_digest);

-- How far each agent is that was told of one.
CREATE TABLE rollout_agents (
    number     INTEGER NOT NULL REFERENCES rollouts (number),
    agent_id   INTEGER NOT NULL REFERENCES agents (agent_id),
    step       TEXT NOT NULL CHECK (step IN ('waiting', 'told') OR step IN ('given', 'back') OR step IN ('healthy', 'refused')
        OR step = 'failed'),
    reason     TEXT,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (number, agent_id),
    CHECK ((reason IS NOT NULL) = (step IN ('refused', 'failed')))
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_agents_agent ON rollout_agents (agent_id);

CREATE VIEW rollout_list AS
SELECT rollouts.number, rollouts.platform, rollouts.version, rollouts.stopped, rollouts.begun_us, rollouts.begun_by,
    rollout_agents.agent_id, agents.name AS agent_name, rollout_agents.step, rollout_agents.reason, rollout_agents.changed_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', rollouts.begun_us / 1000000.0, 'unixepoch') AS begun_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', rollout_agents.changed_us / 1000000.0, 'unixepoch') AS changed_at
FROM rollouts
LEFT JOIN rollout_agents ON rollout_agents.number = rollouts.number
LEFT JOIN agents ON agents.agent_id = rollout_agents.agent_id;
