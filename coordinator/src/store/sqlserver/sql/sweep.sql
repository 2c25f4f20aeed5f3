-- Removes some blobs that nothing refers to. @P2: before. @P3: at most so many.
DECLARE @unused TABLE (blob_id bigint NOT NULL PRIMARY KEY);
-- A job came in since the packs were read: what its pack names is not known yet, and the next sweep is soon enough.
IF NOT EXISTS (
    SELECT 1 FROM lull.blobs AS blobs
    WHERE blobs.links_read = 0
        AND blobs.digest IN (SELECT jobs.pack_digest FROM lull.jobs AS jobs WHERE jobs.pack_digest IS NOT NULL))
    INSERT INTO @unused (blob_id)
    SELECT TOP (@P3) blobs.blob_id
    FROM lull.blobs AS blobs
    WHERE blobs.touched_us < @P2
        AND (blobs.digest IS NULL OR (
            NOT EXISTS (SELECT 1 FROM lull.jobs AS jobs WHERE jobs.pack_digest = blobs.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.results AS results WHERE results.blob_digest = blobs.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.version_blobs AS version_blobs WHERE version_blobs.digest = blobs.digest)
            AND NOT EXISTS (SELECT 1 FROM lull.blob_links AS blob_links WHERE blob_links.digest = blobs.digest)))
    ORDER BY blobs.blob_id;
DELETE FROM lull.blob_pieces WHERE blob_id IN (SELECT unused.blob_id FROM @unused AS unused);
DELETE FROM lull.blob_links WHERE pack_id IN (SELECT unused.blob_id FROM @unused AS unused);
DELETE FROM lull.blobs WHERE blob_id IN (SELECT unused.blob_id FROM @unused AS unused);
SET @result = @@ROWCOUNT;
