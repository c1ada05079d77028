"""Run the embedded chain: ``python -m devnet.evm --dir DIR``.

When it serves, ``DIR/ready.json`` says where. SIGTERM and SIGINT end it cleanly.
"""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from deai.errors import ConfigError, DeaiError
from devnet.evm.chain import Chain, open_chain
from devnet.evm.directory import locked, publish_ready, read_genesis
from devnet.evm.errors import StorageFailed
from devnet.evm.rules import MAX_BODY_BYTES, SEI_LOCAL_CHAIN_ID, SEI_SSTORE_SET_GAS, Rules
from devnet.evm.server import application, produce_blocks

HOST = "127.0.0.1"
MAX_CONNECTIONS = 512
SHUTDOWN_S = 2


class Server(uvicorn.Server):
    """uvicorn without its own signal handling, which ends the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(chain: Chain, directory: Path, listener: socket.socket, block_time: float) -> None:
    """Serve ``chain`` on ``listener`` until SIGTERM or SIGINT.

    Raises :class:`StorageFailed` when a block could not be stored: a chain that cannot store must
    not go on answering from memory.
    """
    failures: list[StorageFailed] = []

    def failed(error: StorageFailed) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        application(chain, failed),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws_max_size=MAX_BODY_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    port = listener.getsockname()[1]
    producing = asyncio.create_task(produce_blocks(chain, block_time, failed))
    # The listener accepts already: whoever connects now is answered a moment later.
    publish_ready(
        directory,
        rpc_url=f"http://{HOST}:{port}",
        ws_url=f"ws://{HOST}:{port}",
        chain_id=chain.rules.chain_id,
    )
    await server.serve(sockets=[listener])
    producing.cancel()
    if failures:
        raise failures[0]


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
                with _listen(flags.port) as listener:
                    asyncio.run(serve(chain, flags.dir, listener, flags.block_time))
            finally:
                chain.store.close()
    except DeaiError as error:
        print(f"error: {error} {error.hint}".rstrip(), file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


def _listen(port: int) -> socket.socket:
    try:
        listener = socket.create_server((HOST, port), backlog=256)
    except OSError as error:
        raise ConfigError(f"--port {port}: {error.strerror}") from error
    # asyncio sets this only on sockets made with an explicit protocol number, which this one is
    # not; without it every answer waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    sys.exit(main())
