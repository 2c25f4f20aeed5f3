SELECT migrations.number, migrations.checksum FROM lull.migrations AS migrations ORDER BY migrations.number;
