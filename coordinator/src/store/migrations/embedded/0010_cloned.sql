-- Which of the reasons it is for which nothing of an agent is believed.

ALTER TABLE agents ADD COLUMN quarantine_kind TEXT
    CHECK (quarantine_kind IN ('output', 'cloned') AND quarantined_us IS NOT NULL OR quarantine_kind IS NULL);
UPDATE agents SET quarantine_kind = 'output' WHERE quarantined_us IS NOT NULL;
