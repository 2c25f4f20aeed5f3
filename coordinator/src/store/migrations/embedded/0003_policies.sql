-- What the administrator allows on machines: one row for each version, the newest of which holds.

CREATE TABLE policies (
    version INTEGER NOT NULL PRIMARY KEY CHECK (version > 0),
    book    TEXT NOT NULL CHECK (json_valid(book)),
    set_us  INTEGER NOT NULL,
    set_by  TEXT NOT NULL
) STRICT;

CREATE VIEW policy_list AS
SELECT policies.version, policies.book, policies.set_by,
    strftime('%Y-%m-%dT%H:%M:%fZ', policies.set_us / 1000000.0, 'unixepoch') AS set_at
FROM policies;
