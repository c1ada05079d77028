"""An embedded NEAR chain: one process, one shard, JSON-RPC over HTTP, contracts as real wasm.

``python -m devnet.near --dir DIR`` runs it. Wasm is executed by wasmtime; accounts, receipts, gas,
storage staking, blocks, the store and the JSON-RPC are ours and follow nearcore at the protocol
version named in ``rules``. What is modelled and what is not: ``docs/near-chain.md``.

Reading order: ``rules`` (what NEAR charges), ``actions`` and ``borsh`` (what is signed), ``state``,
``vm`` (host functions), ``receipts``, ``execution`` and ``settlement``, ``transactions``,
``pool``, ``work`` (one block), ``chain`` (all of them), ``store`` (SQLite), ``views`` (JSON forms),
``params`` and ``rpc`` (the methods), ``server``.
"""
