-- The next pieces, at most sixteen. @P1: blob. @P2: first index. @P3: how many. @P4: their bytes, one piece after the
-- other. @P5: the size of a piece; only the last may be shorter.
SET XACT_ABORT ON;
SET NOCOUNT ON;
INSERT INTO lull.blob_pieces (blob_id, piece_index, bytes)
SELECT @P1, @P2 + pieces.place, SUBSTRING(@P4, CAST(pieces.place * @P5 + 1 AS int), CAST(@P5 AS int))
FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15)) AS pieces (place)
WHERE pieces.place < @P3;
SELECT 0 AS outcome;
