-- The coordinators that share this store. Each writes its own row now and then, whether it leads or stands by.

CREATE TABLE coordinators (
    peer      TEXT NOT NULL PRIMARY KEY,
    name      TEXT NOT NULL,
    machine   TEXT NOT NULL,
    network   TEXT NOT NULL,
    http      TEXT NOT NULL,
    addresses TEXT NOT NULL CHECK (json_valid(addresses)),
    -- Since when it leads, as it believes; only the one that `leader` names does.
    leads_us INTEGER,
    seen_us   INTEGER NOT NULL
) STRICT;

CREATE VIEW coordinator_list AS
SELECT coordinators.name, coordinators.machine, coordinators.peer, coordinators.http,
    CASE WHEN leader.holder = coordinators.name || ' (' || coordinators.peer || ')' THEN 1 ELSE 0 END AS leads,
    leader.term,
    strftime('%Y-%m-%dT%H:%M:%fZ', coordinators.leads_us / 1000000.0, 'unixepoch') AS leads_since,
    strftime('%Y-%m-%dT%H:%M:%fZ', coordinators.seen_us / 1000000.0, 'unixepoch') AS seen_at
FROM coordinators
CROSS JOIN leader;
