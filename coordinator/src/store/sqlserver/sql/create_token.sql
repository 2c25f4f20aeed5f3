-- @P2: role. @P3: name, or none: its number. @P4: fingerprint. @P5: uses at most. @P6: now. @P7: by. @P8: expires.
-- @P9: whom it admits. @P10: their group. @P11: audit detail before the name. @P12: the same behind it. No result: the name
-- is taken.
DECLARE @token_id bigint = (SELECT COALESCE(MAX(tokens.token_id), 0) + 1 FROM lull.tokens AS tokens);
DECLARE @name nvarchar(256) = COALESCE(@P3, CONCAT('t', @token_id));
IF NOT EXISTS (SELECT 1 FROM lull.tokens AS tokens WHERE LOWER(tokens.name) = LOWER(@name) AND tokens.revoked_us IS NULL)
BEGIN
    SET @result = @token_id;
    INSERT INTO lull.tokens (token_id, role, name, fingerprint, uses, uses_max, created_us, created_by, expires_us, bound_names,
        bound_group)
    VALUES (@token_id, @P2, @name, @P4, 0, @P5, @P6, @P7, @P8, @P9, @P10);
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P6, @P7, 'token.create', CONCAT('t', @token_id), LEFT(CONCAT(@P11, @name, @P12), 2000));
END;
