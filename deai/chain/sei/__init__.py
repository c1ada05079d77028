"""The Sei adapter: our contracts on an EVM chain, over JSON-RPC."""
