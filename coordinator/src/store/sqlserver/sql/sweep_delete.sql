-- Deletes pieces of blobs that were given up, and those that have no piece left. @P2: as JSON, of each blob the pieces from
-- one on and before another. @P3: how many links of packs at most; what is left keeps its blob until the next sweep.
DELETE blob_pieces
FROM lull.blob_pieces AS blob_pieces
INNER JOIN OPENJSON(@P2) WITH (blob_id bigint '$.b', from_index int '$.f', before_index int '$.t') AS item
    ON item.blob_id = blob_pieces.blob_id
INNER JOIN lull.blobs AS blobs ON blobs.blob_id = blob_pieces.blob_id
WHERE blob_pieces.piece_index >= item.from_index AND blob_pieces.piece_index < item.before_index
    AND blobs.digest IS NULL AND blobs.touched_us = 0;
DELETE links
FROM lull.blob_links AS links
INNER JOIN (
    SELECT TOP (@P3) blob_links.pack_id, blob_links.digest
    FROM lull.blob_links AS blob_links
    INNER JOIN OPENJSON(@P2) WITH (blob_id bigint '$.b') AS item ON item.blob_id = blob_links.pack_id
    INNER JOIN lull.blobs AS blobs ON blobs.blob_id = blob_links.pack_id
    WHERE blobs.digest IS NULL AND blobs.touched_us = 0
    ORDER BY blob_links.pack_id, blob_links.digest
) AS gone ON gone.pack_id = links.pack_id AND gone.digest = links.digest;
DELETE blobs
FROM lull.blobs AS blobs
INNER JOIN OPENJSON(@P2) WITH (blob_id bigint '$.b') AS item ON item.blob_id = blobs.blob_id
WHERE blobs.digest IS NULL AND blobs.touched_us = 0
    AND NOT EXISTS (SELECT 1 FROM lull.blob_pieces AS pieces WHERE pieces.blob_id = blobs.blob_id)
    AND NOT EXISTS (SELECT 1 FROM lull.blob_links AS links WHERE links.pack_id = blobs.blob_id);
SET @result = @@ROWCOUNT;
