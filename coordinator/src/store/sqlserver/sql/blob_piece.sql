-- @P1: digest. @P2: index.
SELECT blob_pieces.bytes
FROM lull.blobs AS blobs
INNER JOIN lull.blob_pieces AS blob_pieces ON blob_pieces.blob_id = blobs.blob_id
WHERE blobs.digest = @P1 AND blob_pieces.piece_index = @P2;
