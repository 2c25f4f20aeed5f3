-- Gives up blobs that nothing refers to: they lose their name and count no longer, and no upload can give it back. All is
-- asked again here: one that an upload found in the meantime is fresh, and a job that came in since may name some.
-- @P2: their numbers as JSON. @P3: before.
IF NOT EXISTS (SELECT 1 FROM lull.jobs AS jobs WHERE jobs.pack_digest IS NOT NULL AND jobs.pack_read = 0)
    UPDATE blobs
    SET digest = NULL, size_bytes = NULL, outline = NULL, touched_us = 0
    FROM lull.blobs AS blobs
    INNER JOIN OPENJSON(@P2) WITH (blob_id bigint '$.b') AS item ON item.blob_id = blobs.blob_id
    WHERE blobs.touched_us < @P3 AND (blobs.digest IS NULL OR (
        NOT EXISTS (SELECT 1 FROM lull.jobs AS jobs WHERE jobs.pack_digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM lull.results AS results WHERE results.blob_digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM lull.version_blobs AS version_blobs WHERE version_blobs.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM lull.rollouts AS rollouts WHERE rollouts.package_digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM lull.blob_links AS blob_links WHERE blob_links.digest = blobs.digest)));
