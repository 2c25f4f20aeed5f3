-- The newest lines. @P1: limit.
SELECT TOP (@P1) audit.at_us, audit.by_whom, audit.operation, audit.subject, audit.detail
FROM lull.audit AS audit
ORDER BY audit.audit_id DESC;
