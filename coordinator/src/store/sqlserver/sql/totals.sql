SELECT
    (SELECT COUNT(*) FROM lull.jobs AS jobs) AS jobs,
    (SELECT COALESCE(SUM(CAST(jobs.succeeded AS bigint)), 0) FROM lull.jobs AS jobs) AS tasks_succeeded,
    (SELECT COUNT_BIG(*) FROM lull.attempts AS attempts) AS attempts,
    (SELECT COUNT_BIG(*) FROM lull.attempts AS attempts WHERE attempts.outcome = 'lost') AS attempts_lost,
    (SELECT COALESCE(SUM(agents.results_refused), 0) FROM lull.agents AS agents) AS results_refused;
