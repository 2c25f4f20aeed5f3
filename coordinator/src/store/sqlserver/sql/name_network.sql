-- @P1: network. @P2: authority. @P3: 1 to name it anew whatever its name was.
SET XACT_ABORT ON;
SET NOCOUNT ON;
BEGIN TRANSACTION;
IF @P3 = 1
DELETE FROM lull.network WHERE network_id = 1;
INSERT INTO lull.network (network_id, network, authority)
SELECT 1, @P1, @P2
WHERE NOT EXISTS (SELECT 1 FROM lull.network AS network WHERE network.network_id = 1);
SELECT network.network, network.authority FROM lull.network AS network WHERE network.network_id = 1;
COMMIT TRANSACTION;
SELECT 0 AS outcome;
