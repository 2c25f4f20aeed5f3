-- Numbers that a restored store must not give again.

-- Jobs have been numbered up to here, whatever the table of jobs holds.
ALTER TABLE leader ADD COLUMN last_job INTEGER NOT NULL DEFAULT 0;
