-- @P2: the version that it follows, 0 for none. @P3: its own. @P4: book. @P5: now. @P6: by. @P7: audit detail.
IF (SELECT COALESCE(MAX(policies.version), 0) FROM lull.policies AS policies) <> @P2
    SET @result = 0;
ELSE
BEGIN
    INSERT INTO lull.policies (version, book, set_us, set_by) VALUES (@P3, @P4, @P5, @P6);
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P5, @P6, 'policy.set', CONCAT('version ', @P3), @P7);
    SET @result = 1;
END;
