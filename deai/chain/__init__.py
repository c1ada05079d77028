"""The port to the ledger and its adapters."""
