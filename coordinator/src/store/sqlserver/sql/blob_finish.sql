-- Names a blob, unless one with that name is there: then that one counts and is fresh again. @P1: blob. @P2: digest.
-- @P3: size. @P4: outline. @P5: now.
SET XACT_ABORT ON;
SET NOCOUNT ON;
DECLARE @outcome int = 0;
BEGIN TRANSACTION;
UPDATE lull.blobs SET touched_us = @P5 WHERE digest = @P2;
IF @@ROWCOUNT = 1
BEGIN
    DELETE FROM lull.blob_pieces WHERE blob_id = @P1;
    DELETE FROM lull.blobs WHERE blob_id = @P1;
END;
ELSE
BEGIN
    UPDATE lull.blobs SET digest = @P2, size_bytes = @P3, outline = @P4, touched_us = @P5 WHERE blob_id = @P1 AND digest IS NULL AND touched_us > 0;
    IF @@ROWCOUNT <> 1 SET @outcome = 2;
END;
IF @outcome = 0 COMMIT TRANSACTION; ELSE ROLLBACK TRANSACTION;
SELECT @outcome AS outcome;
