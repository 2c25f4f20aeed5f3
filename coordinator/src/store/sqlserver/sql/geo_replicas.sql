-- The copies of this database in other regions of Azure: each lags behind. Needs VIEW DATABASE STATE.
-- https://learn.microsoft.com/sql/relational-databases/system-dynamic-management-views/sys-dm-geo-replication-link-status-azure-sql-database
SELECT links.partner_server AS replica_name, 0 AS availability_mode
FROM sys.dm_geo_replication_link_status AS links
ORDER BY links.partner_server;
