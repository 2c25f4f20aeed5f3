-- How many jobs there are of each state, as far as they are counted. @P1: how far.
SELECT 'active' AS state, COUNT_BIG(*) AS jobs FROM (SELECT TOP (@P1) job_id FROM lull.jobs WHERE state = 'active') AS active
UNION ALL SELECT 'succeeded', COUNT_BIG(*) FROM (SELECT TOP (@P1) job_id FROM lull.jobs WHERE state = 'succeeded') AS succeeded
UNION ALL SELECT 'failed', COUNT_BIG(*) FROM (SELECT TOP (@P1) job_id FROM lull.jobs WHERE state = 'failed') AS failed
UNION ALL SELECT 'cancelled', COUNT_BIG(*) FROM (SELECT TOP (@P1) job_id FROM lull.jobs WHERE state = 'cancelled') AS cancelled
UNION ALL SELECT 'expired', COUNT_BIG(*) FROM (SELECT TOP (@P1) job_id FROM lull.jobs WHERE state = 'expired') AS expired;
