-- An input pack of some job of which it is not known yet what it names. Such jobs have an index of their own.
SELECT TOP (1) blobs.blob_id, blobs.size_bytes, blobs.links_read
FROM lull.jobs AS jobs
INNER JOIN lull.blobs AS blobs ON blobs.digest = jobs.pack_digest
WHERE jobs.pack_digest IS NOT NULL AND jobs.pack_read = 0
ORDER BY jobs.job_id;
