-- @P2: role. @P3: name. @P4: fingerprint. @P5: uses at most. @P6: now. @P7: by. @P8: expires. @P9: audit detail.
SET @result = (SELECT COALESCE(MAX(tokens.token_id), 0) + 1 FROM lull.tokens AS tokens);
INSERT INTO lull.tokens (token_id, role, name, fingerprint, uses, uses_max, created_us, created_by, expires_us)
VALUES (@result, @P2, @P3, @P4, 0, @P5, @P6, @P7, @P8);
INSERT INTO lull.audit (at_us, by_whom, action, subject, detail)
VALUES (@P6, @P7, 'token.create', CONCAT('t', @result), @P9);
