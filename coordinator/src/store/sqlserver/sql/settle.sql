END;
IF @outcome = 0 COMMIT TRANSACTION; ELSE ROLLBACK TRANSACTION;
SELECT @outcome AS outcome, @result AS result, @term AS term, @holder AS holder, @lease_end_us AS lease_end_us,
    @writes AS writes, @turns AS turns;
