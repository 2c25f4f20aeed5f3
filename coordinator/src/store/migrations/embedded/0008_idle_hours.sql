-- When machines were there for work.

CREATE TABLE idle_hours (
    agent_id        INTEGER NOT NULL PRIMARY KEY REFERENCES agents (agent_id),
    -- A byte for each hour of the week by the machine's own clock, Monday's first hour first: the part of it in which the
    -- machine was connected and offered room, in half percents, averaged over weeks; 255 for an hour never watched.
    shares          BLOB NOT NULL CHECK (length(shares) = 168),
    clock_ahead_min INTEGER NOT NULL CHECK (clock_ahead_min BETWEEN -840 AND 840),
    saved_us        INTEGER NOT NULL
) STRICT;
