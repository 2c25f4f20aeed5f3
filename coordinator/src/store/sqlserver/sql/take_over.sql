-- @P1: holder. @P2: now. @P3: the lease's end.
SET XACT_ABORT ON;
SET NOCOUNT ON;
DECLARE @ours int = 0;
BEGIN TRANSACTION;
UPDATE lull.leader
SET term = term + 1, holder = @P1, lease_end_us = @P3, writes = writes + 1
WHERE leader_id = 1 AND (holder IS NULL OR holder = @P1 OR lease_end_us <= @P2);
SET @ours = @@ROWCOUNT;
SELECT @ours AS ours, leader.term, leader.holder, leader.lease_end_us, leader.writes, leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
COMMIT TRANSACTION;
SELECT 0 AS outcome;
