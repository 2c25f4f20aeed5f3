-- Blobs from a number on, and which of them nothing refers to. @P1: behind this number. @P2: before. @P3: how many to look at.
SELECT range.blob_id, blob_pieces.pieces,
    CASE WHEN range.touched_us < @P2 AND (range.digest IS NULL OR (
            NOT EXISTS (SELECT 1 FROM lull.jobs AS jobs WHERE jobs.pack_digest = range.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.results AS results WHERE results.blob_digest = range.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.version_blobs AS version_blobs WHERE version_blobs.digest = range.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.rollouts AS rollouts WHERE rollouts.package_digest = range.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.blob_links AS blob_links WHERE blob_links.digest = range.digest)))
        THEN 1 ELSE 0 END AS unused
FROM (
    SELECT TOP (@P3) blobs.blob_id, blobs.digest, blobs.touched_us
    FROM lull.blobs AS blobs
    WHERE blobs.blob_id > @P1
    ORDER BY blobs.blob_id
) AS range
CROSS APPLY (
    SELECT COALESCE(MAX(pieces.piece_index), -1) + 1 AS pieces FROM lull.blob_pieces AS pieces WHERE pieces.blob_id = range.blob_id
) AS blob_pieces
ORDER BY range.blob_id;
