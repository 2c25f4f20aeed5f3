-- What versions are called beside their numbers, like stable. Each row says from when on a label stood for a version; the newest
-- row of a label counts, and none is changed. `before_move_id` is the row that a rollback goes back to.
CREATE UNIQUE INDEX uq_versions_of ON lull.versions (version_id, function_id);
GO
CREATE TABLE lull.label_moves (
    move_id        bigint NOT NULL,
    function_id    bigint NOT NULL,
    label          nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    version_id     bigint NOT NULL,
    before_move_id bigint NULL,
    moved_us       bigint NOT NULL,
    moved_by       nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_label_moves PRIMARY KEY (move_id),
    CONSTRAINT fk_label_moves_version FOREIGN KEY (version_id, function_id) REFERENCES lull.versions (version_id, function_id),
    CONSTRAINT fk_label_moves_before FOREIGN KEY (before_move_id) REFERENCES lull.label_moves (move_id),
    CONSTRAINT ck_label_moves_before CHECK (before_move_id < move_id)
);
GO
CREATE INDEX ix_label_moves_label ON lull.label_moves (function_id, label, move_id);
GO
CREATE INDEX ix_label_moves_version ON lull.label_moves (version_id, function_id);
GO
CREATE INDEX ix_label_moves_before ON lull.label_moves (before_move_id);
GO
CREATE VIEW lull.label_list AS
SELECT functions.name AS function_name, moves.label, versions.number, moves.moved_by, moves.moved_us, moved.moment AS moved_at,
    CASE WHEN moves.move_id = (SELECT MAX(newest.move_id) FROM lull.label_moves AS newest
        WHERE newest.function_id = moves.function_id AND newest.label = moves.label) THEN 1 ELSE 0 END AS holds
FROM lull.label_moves AS moves
INNER JOIN lull.functions AS functions ON functions.function_id = moves.function_id
INNER JOIN lull.versions AS versions ON versions.version_id = moves.version_id
CROSS APPLY lull.utc(moves.moved_us) AS moved;
