-- A blob that has no name yet. @P1: now.
SET XACT_ABORT ON;
SET NOCOUNT ON;
INSERT INTO lull.blobs (touched_us, links_read) VALUES (@P1, 0);
SELECT 0 AS outcome, CAST(SCOPE_IDENTITY() AS bigint) AS result;
