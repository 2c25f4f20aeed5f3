-- @P1: function. @P2: label. @P3: how many at most. The newest first, whether their versions were removed or not.
SELECT TOP (@P3) moves.move_id, functions.name AS function_name, moves.label, versions.number, moves.before_move_id,
    moves.moved_us, moves.moved_by
FROM lull.label_moves AS moves
INNER JOIN lull.functions AS functions ON functions.function_id = moves.function_id
INNER JOIN lull.versions AS versions ON versions.version_id = moves.version_id
WHERE functions.name = @P1 AND moves.label = @P2
ORDER BY moves.move_id DESC;
