-- What a pack names. @P2: pack. @P3: digests as JSON. @P4: whether these are the last.
INSERT INTO lull.blob_links (pack_id, digest)
SELECT @P2, CONVERT(binary(32), item.digest, 2)
FROM OPENJSON(@P3) WITH (digest varchar(64) '$.d') AS item
WHERE NOT EXISTS (
    SELECT 1 FROM lull.blob_links AS known
    WHERE known.pack_id = @P2 AND known.digest = CONVERT(binary(32), item.digest, 2));
UPDATE lull.blobs SET links_read = @P4 WHERE blob_id = @P2;
IF @P4 = 1
    UPDATE jobs
    SET pack_read = 1
    FROM lull.jobs AS jobs
    INNER JOIN lull.blobs AS blobs ON blobs.digest = jobs.pack_digest
    WHERE blobs.blob_id = @P2 AND jobs.pack_digest IS NOT NULL AND jobs.pack_read = 0;
