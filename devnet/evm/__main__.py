"""Run the embedded chain: ``python -m devnet.evm --dir DIR``.

When it serves, ``DIR/ready.json`` says where. SIGTERM and SIGINT end it cleanly.
"""

import argparse
import asyncio
import socket
import sys
from pathlib import Path

from deai.errors import DeaiError
from devnet import serving
from devnet.evm.chain import Chain, open_chain
from devnet.evm.genesis import read_genesis
from devnet.evm.rules import MAX_BODY_BYTES, SEI_LOCAL_CHAIN_ID, SEI_SSTORE_SET_GAS, Rules
from devnet.evm.server import application, produce_blocks
from devnet.serving import HOST, listen, locked, publish_ready


async def serve(chain: Chain, directory: Path, listener: socket.socket, block_time: float) -> None:
    """Serve ``chain`` on ``listener`` until SIGTERM or SIGINT; raise :class:`StorageFailed`."""
    port = listener.getsockname()[1]
    await serving.serve(
        lambda failed: application(chain, failed),
        lambda: produce_blocks(chain, block_time),
        listener,
        lambda: publish_ready(
            directory,
            rpc_url=f"http://{HOST}:{port}",
            ws_url=f"ws://{HOST}:{port}",
            chain_id=chain.rules.chain_id,
        ),
        ws_max_size=MAX_BODY_BYTES,
    )


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    options = argparse.ArgumentParser(prog="python -m devnet.evm", description=__doc__)
    options.add_argument("--dir", type=Path, required=True, help="where the chain is kept")
    options.add_argument("--port", type=int, default=0, help="0: one that is free")
    options.add_argument("--block-time", type=float, default=0.4, help="seconds between blocks")
    options.add_argument("--chain-id", type=int, default=SEI_LOCAL_CHAIN_ID)
    options.add_argument(
        "--genesis", type=Path, help='JSON file {"0xaddress": wei}; read when the chain begins'
    )
    options.add_argument(
        "--sstore-gas",
        type=int,
        default=SEI_SSTORE_SET_GAS,
        help="price of a fresh storage slot; Ethereum's is 20000",
    )
    flags = options.parse_args()
    if not 0.01 <= flags.block_time <= 3_600:
        options.error("--block-time: 0.01 to 3600 seconds")
    rules = Rules(chain_id=flags.chain_id, sstore_set_gas=flags.sstore_gas)
    try:
        with locked(flags.dir):
            genesis = read_genesis(flags.genesis) if flags.genesis else {}
            chain = open_chain(flags.dir / "chain.sqlite", rules, genesis)
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
