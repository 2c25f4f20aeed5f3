-- Which of the reasons it is for which nothing of an agent is believed.

ALTER TABLE lull.agents ADD quarantine_kind varchar(16) NULL;
GO
UPDATE lull.agents SET quarantine_kind = 'output' WHERE quarantined_us IS NOT NULL;
GO
ALTER TABLE lull.agents ADD CONSTRAINT ck_agents_quarantine_kind CHECK (quarantine_kind IS NULL
    OR (quarantined_us IS NOT NULL AND (quarantine_kind = 'output' OR quarantine_kind = 'cloned')));
