"""The local HTTP interface: reads the live node, and passes on what the operator wants."""
