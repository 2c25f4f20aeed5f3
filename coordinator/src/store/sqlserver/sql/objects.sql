-- What schema `lull` holds, as far as this login may see it, for `lull db check`.
SELECT tables.name AS table_name, columns.name AS column_name, types.name AS type_name,
    CAST(columns.max_length AS int) AS size_bytes, CAST(columns.is_nullable AS int) AS is_nullable
FROM sys.tables AS tables
INNER JOIN sys.columns AS columns ON columns.object_id = tables.object_id
INNER JOIN sys.types AS types ON types.user_type_id = columns.user_type_id
WHERE tables.schema_id = SCHEMA_ID(N'lull')
ORDER BY tables.name, columns.column_id;
SELECT tables.name AS table_name, indexes.name AS index_name, CAST(indexes.is_unique AS int) AS is_unique,
    CAST(indexes.is_disabled AS int) AS is_disabled, indexes.filter_definition AS filter,
    columns.name AS column_name, CAST(places.is_included_column AS int) AS is_included
FROM sys.tables AS tables
INNER JOIN sys.indexes AS indexes ON indexes.object_id = tables.object_id
INNER JOIN sys.index_columns AS places ON places.object_id = indexes.object_id AND places.index_id = indexes.index_id
INNER JOIN sys.columns AS columns ON columns.object_id = places.object_id AND columns.column_id = places.column_id
WHERE tables.schema_id = SCHEMA_ID(N'lull') AND indexes.name IS NOT NULL
ORDER BY tables.name, indexes.name, places.is_included_column, places.key_ordinal, places.index_column_id;
SELECT tables.name AS table_name, checks.name AS constraint_name,
    CAST(checks.is_disabled AS int) AS is_disabled, CAST(checks.is_not_trusted AS int) AS is_not_trusted
FROM sys.tables AS tables
INNER JOIN sys.check_constraints AS checks ON checks.parent_object_id = tables.object_id
WHERE tables.schema_id = SCHEMA_ID(N'lull')
ORDER BY tables.name, checks.name;
SELECT tables.name AS table_name, keys.name AS constraint_name,
    CAST(keys.is_disabled AS int) AS is_disabled, CAST(keys.is_not_trusted AS int) AS is_not_trusted
FROM sys.tables AS tables
INNER JOIN sys.foreign_keys AS keys ON keys.parent_object_id = tables.object_id
WHERE tables.schema_id = SCHEMA_ID(N'lull')
ORDER BY tables.name, keys.name;
SELECT objects.name AS module_name, CASE WHEN objects.type = 'V' THEN 1 ELSE 0 END AS is_view, modules.definition AS definition
FROM sys.objects AS objects
LEFT JOIN sys.sql_modules AS modules ON modules.object_id = objects.object_id
WHERE objects.schema_id = SCHEMA_ID(N'lull') AND objects.type IN ('V', 'IF', 'FN', 'TF', 'P')
ORDER BY objects.name;
