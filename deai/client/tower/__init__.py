"""A watchtower: holds other people's vouchers and answers a stale close with them.

`shelf` keeps the vouchers, `watch` looks at the chain and redeems, `desk` takes them in over p2p.
A tower needs no key but the one that pays for its own transactions, and no node.
"""
