-- @P1: blob. @P2: index.
SELECT blob_pieces.bytes FROM lull.blob_pieces AS blob_pieces WHERE blob_pieces.blob_id = @P1 AND blob_pieces.piece_index = @P2;
