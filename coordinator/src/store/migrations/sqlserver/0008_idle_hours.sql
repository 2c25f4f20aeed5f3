-- When machines were there for work.

CREATE TABLE lull.idle_hours (
    agent_id        bigint NOT NULL,
    -- A byte for each hour of the week by the machine's own clock, Monday's first hour first: the part of it in which the
    -- machine was connected and offered room, in half percents, averaged over weeks; 255 for an hour never watched.
    shares          binary(168) NOT NULL,
    clock_ahead_min smallint NOT NULL,
    saved_us        bigint NOT NULL,
    CONSTRAINT pk_idle_hours PRIMARY KEY (agent_id),
    CONSTRAINT fk_idle_hours_agent FOREIGN KEY (agent_id) REFERENCES lull.agents (agent_id),
    CONSTRAINT ck_idle_hours_clock CHECK (clock_ahead_min BETWEEN -840 AND 840)
);
