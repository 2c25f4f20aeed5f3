-- The version that is the same, if there is one, and the next number. @P1: function. @P2: module. @P3: canonical NaNs.
-- @P4: the number up to which versions are known to be others.
SELECT TOP (1) versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_digest,
    versions.module_bytes, versions.canonical_nans, versions.manifest, versions.manifest_signature, versions.interface,
    versions.published_us, versions.published_by, versions.removed_us
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id
WHERE functions.name = @P1 AND versions.module_digest = @P2 AND versions.canonical_nans = @P3 AND versions.number > @P4
    AND versions.removed_us IS NULL
ORDER BY versions.number DESC;
SELECT COALESCE(MAX(versions.number), 0) + 1 AS next_number
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id
WHERE functions.name = @P1;
