"""An embedded EVM chain with Sei's rules: one process, JSON-RPC over HTTP and WebSocket.

``python -m devnet.evm --dir DIR`` runs it. Execution is py-evm (Prague); the pool, the blocks, the
store and the JSON-RPC are ours, so that what Sei does differently (the price of a storage slot,
the fee floor, log ranges) holds here too and a program that works here meets no surprise there.

Reading order: ``rules`` (what Sei charges), ``vm`` (execution), ``pool``, ``blocks`` (JSON forms),
``store`` (SQLite), ``chain`` (block production), ``params`` and ``rpc`` (the methods), ``server``.
"""
