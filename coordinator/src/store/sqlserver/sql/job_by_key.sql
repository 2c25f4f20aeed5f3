-- @P1: the digest of submitter and key.
SELECT jobs.job_id FROM lull.jobs AS jobs WHERE jobs.key_digest = @P1;
