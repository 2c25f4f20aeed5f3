-- Who we are and what is there, for opening and for `lull db check`. Needs no right but to connect.
SELECT
    DB_NAME() AS database_name,
    CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS server_version,
    SUSER_SNAME() AS login_name,
    CASE WHEN SCHEMA_ID(N'lull') IS NULL THEN 0 ELSE 1 END AS has_schema,
    CASE WHEN OBJECT_ID(N'lull.migrations') IS NULL THEN 0 ELSE 1 END AS has_ledger,
    HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', N'CREATE TABLE') AS may_create_tables,
    HAS_PERMS_BY_NAME(N'lull', N'SCHEMA', N'SELECT') AS may_select,
    HAS_PERMS_BY_NAME(N'lull', N'SCHEMA', N'INSERT') AS may_insert,
    HAS_PERMS_BY_NAME(N'lull', N'SCHEMA', N'UPDATE') AS may_update,
    HAS_PERMS_BY_NAME(N'lull', N'SCHEMA', N'DELETE') AS may_delete,
    -- Where it is not there yet, that is said of itself.
    COALESCE(HAS_PERMS_BY_NAME(N'lull.take_turn', N'OBJECT', N'EXECUTE'), 1) AS may_execute;
