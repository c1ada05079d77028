"""The client of the network: submit a task, follow it, fetch and check its result."""
