-- How often machines were taken away in each hour of their week, and hours as people read them.

-- A byte for each hour of the week, as in `shares`: how often in that hour the machine was taken away from work, in
-- twentieths, averaged over weeks in which it was there in that hour; 255 for an hour in which it never was.
ALTER TABLE lull.idle_hours ADD taken binary(168) NULL;
GO
-- An hour of an agent's week by its own clock. Day 1 is Monday.
CREATE VIEW lull.idle_hour_list AS
SELECT agents.agent_id, agents.name, days.day, hours.hour,
    CASE WHEN bytes.share <= 200 THEN bytes.share / 2.0 END AS there_percent,
    CASE WHEN bytes.taken <= 200 THEN bytes.taken / 20.0 END AS times_taken
FROM lull.idle_hours AS idle_hours
INNER JOIN lull.agents AS agents ON agents.agent_id = idle_hours.agent_id
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7)) AS days (day)
CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18),
    (19), (20), (21), (22), (23)) AS hours (hour)
CROSS APPLY (SELECT
    CONVERT(int, SUBSTRING(idle_hours.shares, (days.day - 1) * 24 + hours.hour + 1, 1)) AS share,
    CONVERT(int, SUBSTRING(idle_hours.taken, (days.day - 1) * 24 + hours.hour + 1, 1)) AS taken) AS bytes;
