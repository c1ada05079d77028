"""The coordinator's database: schema, migrations, the one writer, the readers."""
