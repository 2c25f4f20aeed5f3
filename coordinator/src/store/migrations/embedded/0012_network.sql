-- Whose store this is. A data folder and a store that do not belong together are told apart by it, and a store that was
-- emptied from one that is new.

CREATE TABLE network (
    network_id INTEGER NOT NULL PRIMARY KEY CHECK (network_id = 1),
    network    TEXT NOT NULL,
    -- The public half of the key that signs for the network.
    authority  TEXT NOT NULL
) STRICT;
