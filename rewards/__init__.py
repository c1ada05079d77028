"""Who is owed what: arithmetic only."""
