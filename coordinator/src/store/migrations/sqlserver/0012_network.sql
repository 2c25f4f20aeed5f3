-- Whose store this is. A data folder and a store that do not belong together are told apart by it, and a store that was
-- emptied from one that is new.

CREATE TABLE lull.network (
    network_id int NOT NULL,
    network    nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
    -- The public half of the key that signs for the network.
    authority  nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_network PRIMARY KEY (network_id),
    CONSTRAINT ck_network_network_id CHECK (network_id = 1)
);
