-- How the server and the database are set up, for `lull db check`. Needs no right but to connect.
-- https://learn.microsoft.com/sql/t-sql/functions/serverproperty-transact-sql
-- https://learn.microsoft.com/sql/relational-databases/system-catalog-views/sys-databases-transact-sql
SELECT
    CAST(SERVERPROPERTY('EngineEdition') AS int) AS engine_edition,
    CAST(databases.compatibility_level AS int) AS compatibility_level,
    CAST(databases.is_read_committed_snapshot_on AS int) AS read_committed_snapshot,
    CAST(databases.delayed_durability AS int) AS delayed_durability,
    CAST(databases.is_auto_close_on AS int) AS auto_close,
    CAST(databases.is_read_only AS int) AS read_only,
    COALESCE(IS_SRVROLEMEMBER('sysadmin'), 0) AS is_sysadmin,
    COALESCE(IS_ROLEMEMBER('db_owner'), 0) AS is_owner,
    COALESCE(HAS_PERMS_BY_NAME(N'lull.audit', N'OBJECT', N'DELETE'), 0) AS may_delete_audit,
    COALESCE(HAS_PERMS_BY_NAME(N'lull.audit', N'OBJECT', N'UPDATE'), 0) AS may_update_audit
FROM sys.databases AS databases
WHERE databases.name = DB_NAME();
