-- What versions are called beside their numbers, like stable. Each row says from when on a label stood for a version; the newest
-- row of a label counts, and none is changed. `before_move_id` is the row that a rollback goes back to.
CREATE UNIQUE INDEX versions_of ON versions (version_id, function_id);
CREATE TABLE label_moves (
    move_id        INTEGER NOT NULL PRIMARY KEY,
    function_id    INTEGER NOT NULL,
    label          TEXT NOT NULL,
    version_id     INTEGER NOT NULL,
    before_move_id INTEGER REFERENCES label_moves CHECK (before_move_id < move_id),
    moved_us       INTEGER NOT NULL,
    moved_by       TEXT NOT NULL,
    FOREIGN KEY (version_id, function_id) REFERENCES versions (version_id, function_id)
) STRICT;
CREATE INDEX label_moves_label ON label_moves (function_id, label, move_id);
CREATE INDEX label_moves_version ON label_moves (version_id, function_id);
CREATE INDEX label_moves_before ON label_moves (before_move_id);

CREATE VIEW label_list AS
SELECT functions.name AS function_name, label_moves.label, versions.number, label_moves.moved_by, label_moves.moved_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', label_moves.moved_us / 1000000.0, 'unixepoch') AS moved_at,
    CASE WHEN label_moves.move_id = (SELECT max(newest.move_id) FROM label_moves AS newest
        WHERE newest.function_id = label_moves.function_id AND newest.label = label_moves.label) THEN 1 ELSE 0 END AS holds
FROM label_moves
JOIN functions ON functions.function_id = label_moves.function_id
JOIN versions ON versions.version_id = label_moves.version_id;
