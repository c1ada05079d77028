"""How two results compare; imported in a worker only, because it parses strangers' bytes."""
