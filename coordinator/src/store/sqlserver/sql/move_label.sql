-- @P2: function. @P3: label. @P4: number of the version. @P5: the move that it follows, 0 for none. @P6: the move that a rollback
-- goes back to. @P7: now. @P8: by. @P9: operation. @P10: subject.
DECLARE @function_id bigint = (SELECT functions.function_id FROM lull.functions AS functions WHERE functions.name = @P2);
DECLARE @version_id bigint = (SELECT versions.version_id FROM lull.versions AS versions
    WHERE versions.function_id = @function_id AND versions.number = @P4 AND versions.removed_us IS NULL);
SET @result = 0;
IF @version_id IS NOT NULL AND (SELECT COALESCE(MAX(moves.move_id), 0) FROM lull.label_moves AS moves
    WHERE moves.function_id = @function_id AND moves.label = @P3) = @P5
BEGIN
    INSERT INTO lull.label_moves (move_id, function_id, label, version_id, before_move_id, moved_us, moved_by)
    SELECT COALESCE(MAX(moves.move_id), 0) + 1, @function_id, @P3, @version_id, @P6, @P7, @P8
    FROM lull.label_moves AS moves;
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P7, @P8, @P9, @P10, @P3);
    SET @result = 1;
END;
