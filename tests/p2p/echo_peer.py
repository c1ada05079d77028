"""A peer in a process of its own: prints where it listens, then echoes until it is killed."""

from __future__ import annotations

import sys

import trio

from p2p.net import open_net
from tests.p2p.pairs import echo
from tests.p2p.worlds import TALK, identity


async def main() -> None:
    async with (
        open_net(identity(sys.argv[1]), listen=["/ip4/127.0.0.1/tcp/0"]) as net,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(net.serve, TALK, echo)
        sys.stdout.write(" ".join((net.peer_id, *net.addresses)) + "\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
