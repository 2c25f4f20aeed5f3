SELECT TOP (1) policies.version, policies.book, policies.set_us, policies.set_by
FROM lull.policies AS policies
ORDER BY policies.version DESC;
