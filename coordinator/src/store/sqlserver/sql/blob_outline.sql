-- @P1: digest.
SELECT blobs.size_bytes, blobs.outline FROM lull.blobs AS blobs WHERE blobs.digest = @P1;
