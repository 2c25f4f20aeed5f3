-- Counts over all time.
SELECT totals.jobs, totals.tasks_succeeded, totals.attempts, totals.attempts_lost, totals.results_refused
FROM lull.totals AS totals
WHERE totals.totals_id = 1;
