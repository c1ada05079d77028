"""What a node must not forget: a journal in SQLite and the blobs of its tasks beside it."""
