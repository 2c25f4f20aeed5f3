-- @P2: token. @P3: now. @P4: by.
SET @result = (SELECT COUNT(*) FROM lull.tokens AS tokens WHERE tokens.token_id = @P2);
UPDATE lull.tokens SET revoked_us = @P3 WHERE token_id = @P2 AND revoked_us IS NULL;
IF @@ROWCOUNT = 1
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P3, @P4, 'token.revoke', CONCAT('t', @P2), '');
