-- The other copies of this database in its availability group. Needs VIEW ANY DEFINITION.
-- https://learn.microsoft.com/sql/relational-databases/system-catalog-views/sys-availability-replicas-transact-sql
SELECT replicas.replica_server_name AS replica_name, CAST(replicas.availability_mode AS int) AS availability_mode
FROM sys.databases AS databases
INNER JOIN sys.availability_replicas AS own ON own.replica_id = databases.replica_id
INNER JOIN sys.availability_replicas AS replicas ON replicas.group_id = own.group_id AND replicas.replica_id <> own.replica_id
WHERE databases.name = DB_NAME()
ORDER BY replicas.replica_server_name;
