-- @P1: holder. @P2: now. @P3: the lease's end.
SET XACT_ABORT ON;
SET NOCOUNT ON;
DECLARE @ours int = 0;
BEGIN TRANSACTION;
UPDATE lull.reign
SET epoch = epoch + 1, writ = writ + 1, holder = @P1, lease_end_us = @P3, writes = writes + 1
WHERE reign_id = 1 AND (holder IS NULL OR holder = @P1 OR lease_end_us <= @P2);
SET @ours = @@ROWCOUNT;
SELECT @ours AS ours, reign.epoch, reign.writ, reign.holder, reign.lease_end_us FROM lull.reign AS reign WHERE reign.reign_id = 1;
COMMIT TRANSACTION;
SELECT 0 AS outcome;
