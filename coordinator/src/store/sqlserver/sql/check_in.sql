-- @P1: peer. @P2: name. @P3: machine. @P4: network. @P5: http. @P6: addresses. @P7: leads since.
-- @P8: now. @P9: rows that are older go.
SET XACT_ABORT ON;
SET NOCOUNT ON;
BEGIN TRANSACTION;
UPDATE lull.coordinators
SET name = @P2, machine = @P3, network = @P4, http = @P5, addresses = @P6, leads_us = @P7, seen_us = @P8
WHERE peer = @P1;
IF @@ROWCOUNT = 0
INSERT INTO lull.coordinators (peer, name, machine, network, http, addresses, leads_us, seen_us)
VALUES (@P1, @P2, @P3, @P4, @P5, @P6, @P7, @P8);
DELETE FROM lull.coordinators WHERE seen_us < @P9;
COMMIT TRANSACTION;
SELECT 0 AS outcome;
