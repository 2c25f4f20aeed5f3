-- Every label and the version that it stands for, removed ones left out.
SELECT moves.move_id, functions.name AS function_name, moves.label, versions.number, moves.before_move_id, moves.moved_us,
    moves.moved_by
FROM lull.label_moves AS moves
INNER JOIN lull.functions AS functions ON functions.function_id = moves.function_id
INNER JOIN lull.versions AS versions ON versions.version_id = moves.version_id
WHERE versions.removed_us IS NULL
    AND moves.move_id = (SELECT MAX(newest.move_id) FROM lull.label_moves AS newest
        WHERE newest.function_id = moves.function_id AND newest.label = moves.label)
ORDER BY functions.name, moves.label;
