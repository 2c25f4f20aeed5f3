-- @P1: function. @P2: number, any if it is NULL. @P3: label, any if it is NULL. @P4: the label whose version comes first; behind
-- it the newest.
SELECT TOP (1) versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_digest,
    versions.module_bytes, versions.canonical_nans, versions.manifest, versions.manifest_signature, versions.interface,
    versions.published_us, versions.published_by, versions.removed_us
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id
WHERE functions.name = @P1 AND versions.number = COALESCE(@P2, versions.number) AND versions.removed_us IS NULL
    AND (@P3 IS NULL OR versions.version_id = (SELECT TOP (1) moves.version_id FROM lull.label_moves AS moves
        WHERE moves.function_id = functions.function_id AND moves.label = @P3 ORDER BY moves.move_id DESC))
ORDER BY CASE WHEN versions.version_id = (SELECT TOP (1) moves.version_id FROM lull.label_moves AS moves
        WHERE moves.function_id = functions.function_id AND moves.label = @P4 ORDER BY moves.move_id DESC) THEN 0 ELSE 1 END,
    versions.number DESC;
