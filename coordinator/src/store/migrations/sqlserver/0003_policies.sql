-- What the administrator allows on machines: one row for each version, the newest of which holds.

CREATE TABLE lull.policies (
    version bigint NOT NULL,
    book    nvarchar(max) NOT NULL,
    set_us  bigint NOT NULL,
    set_by  nvarchar(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    CONSTRAINT pk_policies PRIMARY KEY (version),
    CONSTRAINT ck_policies_version CHECK (version > 0),
    CONSTRAINT ck_policies_book CHECK (ISJSON(book) = 1)
);
GO
CREATE VIEW lull.policy_list AS
SELECT policies.version, policies.book, policies.set_by, lull.utc(policies.set_us) AS set_at
FROM lull.policies AS policies;
