"""HTTP and WebSocket: handlers that translate between requests and the store, nothing more."""
