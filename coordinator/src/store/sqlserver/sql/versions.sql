SELECT versions.version_id, functions.name AS function_name, versions.number, versions.kind, versions.module_digest,
    versions.module_bytes, versions.canonical_nans, versions.manifest, versions.manifest_signature, versions.interface,
    versions.published_us, versions.published_by, versions.removed_us
FROM lull.versions AS versions
INNER JOIN lull.functions AS functions ON functions.function_id = versions.function_id
WHERE versions.removed_us IS NULL
ORDER BY functions.name, versions.number DESC;
