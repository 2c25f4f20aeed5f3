-- Numbers that a restored store must not give again.

-- Jobs have been numbered up to here, whatever the table of jobs holds.
ALTER TABLE lull.leader ADD last_job bigint NOT NULL CONSTRAINT df_leader_last_job DEFAULT 0;
