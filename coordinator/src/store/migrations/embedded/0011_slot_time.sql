-- What an attempt had of a slot: waiting at its agent is not charged.

-- In microseconds, once it is over.
ALTER TABLE attempts ADD COLUMN slot_us INTEGER;

DROP VIEW agent_hours;
-- What each agent gave, by the day on which its attempts ended.
CREATE VIEW agent_hours AS
SELECT agents.agent_id, agents.name AS agent_name,
    strftime('%Y-%m-%d', attempts.ended_us / 1000000, 'unixepoch') AS day,
    count(*) AS attempts,
    sum(CASE WHEN attempts.outcome = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
    sum(CASE WHEN attempts.outcome = 'failed' THEN 1 ELSE 0 END) AS failed,
    sum(CASE WHEN attempts.outcome IN ('evicted', 'recalled', 'lost') THEN 1 ELSE 0 END) AS moved,
    sum(coalesce(attempts.slot_us, attempts.wall_us)) / 3600000000.0 AS slot_hours,
    sum(attempts.cpu_us) / 3600000000.0 AS cpu_hours
FROM attempts
JOIN agents ON agents.agent_id = attempts.agent_id
WHERE attempts.ended_us IS NOT NULL
GROUP BY agents.agent_id, agents.name, strftime('%Y-%m-%d', attempts.ended_us / 1000000, 'unixepoch');
