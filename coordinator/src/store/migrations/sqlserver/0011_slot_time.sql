-- What an attempt had of a slot: waiting at its agent is not charged.

-- In microseconds, once it is over.
ALTER TABLE lull.attempts ADD slot_us bigint NULL;
GO
DROP VIEW lull.agent_hours;
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
        SUM(CAST(COALESCE(attempts.slot_us, attempts.wall_us) AS decimal(38, 0))) AS slot_us,
        SUM(CAST(attempts.cpu_us AS decimal(38, 0))) AS cpu_us
    FROM lull.attempts AS attempts
    WHERE attempts.ended_us IS NOT NULL
    GROUP BY attempts.agent_id, attempts.ended_us / 86400000000
) AS days
INNER JOIN lull.agents AS agents ON agents.agent_id = days.agent_id;
