DECLARE @lead nvarchar(max) = @P1;
SET XACT_ABORT ON;
SET NOCOUNT ON;
-- 0: done. 1: the leader's row does not let it through. 2: not as it was when it was read. 3 and more: the changes
-- contradict the rows.
DECLARE @outcome int = 0;
DECLARE @result bigint = NULL;
-- @lead is what every write shows, in one value: the lead, the writes that the store has at least, and of the scheduler's
-- turn the number of turns before it.
DECLARE @own_term bigint = CAST(JSON_VALUE(@lead, '$.term') AS bigint);
DECLARE @own_holder nvarchar(256) = JSON_VALUE(@lead, '$.holder');
DECLARE @writes_known bigint = CAST(JSON_VALUE(@lead, '$.writes') AS bigint);
DECLARE @turns_before bigint = CAST(JSON_VALUE(@lead, '$.turns') AS bigint);
DECLARE @term bigint, @holder nvarchar(256), @lease_end_us bigint, @writes bigint, @turns bigint;
BEGIN TRANSACTION;
-- Changing this row makes writers come one after the other, and the lead hold until the commit.
UPDATE lull.leader
SET writes = writes + 1, turns = turns + CASE WHEN @turns_before IS NULL THEN 0 ELSE 1 END
WHERE leader_id = 1 AND term = @own_term AND holder = @own_holder AND writes >= @writes_known
    AND turns = COALESCE(@turns_before, turns);
IF @@ROWCOUNT <> 1 SET @outcome = 1;
SELECT @term = leader.term, @holder = leader.holder, @lease_end_us = leader.lease_end_us, @writes = leader.writes,
    @turns = leader.turns
FROM lull.leader AS leader
WHERE leader.leader_id = 1;
IF @outcome = 0
BEGIN
