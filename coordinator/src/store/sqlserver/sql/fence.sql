SET XACT_ABORT ON;
SET NOCOUNT ON;
-- 0: done. 1: another term leads. 2: not as it was when it was read. 3 and more: the changes contradict the rows.
DECLARE @outcome int = 0;
DECLARE @result bigint = NULL;
BEGIN TRANSACTION;
-- Changing this row makes writers come one after the other, and the term hold until the commit. @P1 is the writ that
-- the last loading of the store was given: what was sent before it and arrives late is refused like an older term.
UPDATE lull.leader SET writes = writes + 1 WHERE leader_id = 1 AND writ = @P1 AND holder IS NOT NULL;
IF @@ROWCOUNT <> 1 SET @outcome = 1;
IF @outcome = 0
BEGIN
