-- How often machines were taken away in each hour of their week, and hours as people read them.

-- A byte for each hour of the week, as in `shares`: how often in that hour the machine was taken away from work, in
-- twentieths, averaged over weeks in which it was there in that hour; 255 for an hour in which it never was.
ALTER TABLE idle_hours ADD COLUMN taken BLOB CHECK (length(taken) = 168);

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
SELECT numbers.agent_id, agents.name, numbers.place / 24 + 1 AS day, numbers.place % 24 AS hour,
    CASE WHEN numbers.share <= 200 THEN numbers.share / 2.0 END AS there_percent,
    CASE WHEN numbers.taken <= 200 THEN numbers.taken / 20.0 END AS times_taken
FROM numbers JOIN agents ON agents.agent_id = numbers.agent_id;
