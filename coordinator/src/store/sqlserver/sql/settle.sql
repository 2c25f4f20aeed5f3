END;
IF @outcome = 0 COMMIT TRANSACTION; ELSE ROLLBACK TRANSACTION;
SELECT @outcome AS outcome, @result AS result;
