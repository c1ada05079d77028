"""The adapter to NEAR: py-near behind the `Ledger` port."""
