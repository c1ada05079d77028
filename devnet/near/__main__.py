"""Run the embedded chain: ``python -m devnet.near --dir DIR``.

When it serves, ``DIR/ready.json`` says where. SIGTERM and SIGINT end it cleanly.
"""

import argparse
import asyncio
import socket
import sys
from pathlib import Path

from deai.errors import DeaiError
from devnet import serving
from devnet.near.chain import Chain, Options, open_chain
from devnet.near.genesis import read_genesis
from devnet.near.rpc import Rpc
from devnet.near.rules import CHAIN_ID
from devnet.near.server import application, produce_blocks
from devnet.serving import listen, locked, publish_ready

SKIPPED_NS = 10**9  # how long a height takes that is skipped, when blocks are made on demand


async def serve(chain: Chain, directory: Path, listener: socket.socket, block_time: float) -> None:
    """Serve ``chain`` on ``listener`` until SIGTERM or SIGINT; raise :class:`StorageFailed`."""
    work = asyncio.Event()
    rpc = Rpc(chain, work.set)
    host, port = listener.getsockname()[:2]
    rpc.url = f"http://{host}:{port}"
    await serving.serve(
        lambda failed: application(rpc, failed),
        lambda: produce_blocks(chain, block_time, work),
        listener,
        lambda: publish_ready(directory, rpc_url=rpc.url, chain_id=chain.options.chain_id),
        ws="none",
    )


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    options = argparse.ArgumentParser(prog="python -m devnet.near", description=__doc__)
    options.add_argument("--dir", type=Path, required=True, help="where the chain is kept")
    options.add_argument("--port", type=int, default=0, help="0: one that is free")
    options.add_argument(
        "--block-time",
        type=float,
        default=1.0,
        help="seconds between blocks; 0: as soon as there is something to do",
    )
    options.add_argument("--chain-id", default=CHAIN_ID)
    options.add_argument(
        "--genesis",
        type=Path,
        help='JSON file {"name.near": {"amount": yoctoNEAR, "public_keys": ["ed25519:…"]}}; '
        "read when the chain begins",
    )
    options.add_argument(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="run receipts in other orders, as several shards might, and leave heights out",
    )
    flags = options.parse_args()
    if flags.block_time and not 0.01 <= flags.block_time <= 3_600:
        options.error("--block-time: 0, or 0.01 to 3600 seconds")
    if flags.shuffle is not None and not 0 <= flags.shuffle < 2**64:
        options.error("--shuffle: a number below 2**64")
    if not 0 < len(flags.chain_id) <= 64:
        options.error("--chain-id: 1 to 64 letters")
    chosen = Options(
        chain_id=flags.chain_id,
        block_ns=int(flags.block_time * 10**9) or SKIPPED_NS,
        shuffle=flags.shuffle,
    )
    try:
        with locked(flags.dir):
            genesis = read_genesis(flags.genesis) if flags.genesis else {}
            chain = open_chain(flags.dir / "chain.sqlite", chosen, genesis)
            try:
                with listen(flags.port) as listener:
                    asyncio.run(serve(chain, flags.dir, listener, flags.block_time))
            finally:
                chain.store.close()
    except DeaiError as error:
        print(f"error: {error} {error.hint}".rstrip(), file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
