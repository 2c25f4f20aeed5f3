-- A blob that is there is fresh again, unless it is fresh enough. Its size, or NULL if it is not there: one that the sweep
-- gave up before this has no digest any more, and one that is fresh is not given up. @P1: digest. @P2: now. @P3: what was
-- touched since then is fresh enough.
SET XACT_ABORT ON;
SET NOCOUNT ON;
UPDATE lull.blobs SET touched_us = @P2 WHERE digest = @P1 AND touched_us < @P3;
SELECT 0 AS outcome, (SELECT blobs.size_bytes FROM lull.blobs AS blobs WHERE blobs.digest = @P1) AS result;
