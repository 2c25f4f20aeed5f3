-- @P2: function. @P3: number, all if it is NULL. @P4: now. @P5: by. @P6: subject.
UPDATE lull.versions
SET removed_us = @P4
WHERE removed_us IS NULL AND number = COALESCE(@P3, number)
    AND function_id = (SELECT functions.function_id FROM lull.functions AS functions WHERE functions.name = @P2);
SET @result = @@ROWCOUNT;
IF @result > 0
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P4, @P5, 'function.remove', @P6, CONCAT(@result, CASE WHEN @result = 1 THEN ' version' ELSE ' versions' END));
