"""Indexer, HTTP and WebSocket API, pages; no funds, no authority."""
