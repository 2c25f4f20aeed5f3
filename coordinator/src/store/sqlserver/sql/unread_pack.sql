-- An input pack of some job whose links are not known yet.
SELECT TOP (1) blobs.blob_id, blobs.size_bytes
FROM lull.blobs AS blobs
WHERE blobs.links_read = 0 AND blobs.digest IN (SELECT jobs.pack_digest FROM lull.jobs AS jobs WHERE jobs.pack_digest IS NOT NULL);
