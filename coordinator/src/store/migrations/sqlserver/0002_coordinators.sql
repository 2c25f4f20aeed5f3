-- The coordinators that share this store. Each writes its own row now and then, whether it leads or stands by.

CREATE TABLE lull.coordinators (
    peer      nvarchar(128) COLLATE Latin1_General_100_BIN2 NOT NULL,
    name      nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    machine   nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    network   nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
    http      nvarchar(2000) NOT NULL,
    addresses nvarchar(max) NOT NULL,
    -- Since when it leads, as it believes; only the one that `leader` names does.
    leads_us bigint NULL,
    seen_us   bigint NOT NULL,
    CONSTRAINT pk_coordinators PRIMARY KEY (peer),
    CONSTRAINT ck_coordinators_addresses CHECK (ISJSON(addresses) = 1)
);
GO
CREATE VIEW lull.coordinator_list AS
SELECT coordinators.name, coordinators.machine, coordinators.peer, coordinators.http,
    CASE WHEN leader.holder = CONCAT(coordinators.name, ' (', coordinators.peer, ')') THEN 1 ELSE 0 END AS leads,
    leader.term,
    lull.utc(coordinators.leads_us) AS leads_since,
    lull.utc(coordinators.seen_us) AS seen_at
FROM lull.coordinators AS coordinators
CROSS JOIN lull.leader AS leader;
