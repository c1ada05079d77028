"""Run the embedded chain: ``python -m devnet.near --dir DIR``.

When it serves, ``DIR/ready.json`` says where. SIGTERM and SIGINT end it cleanly.
"""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from deai.errors import ConfigError, DeaiError
from devnet.evm.directory import locked, publish_ready
from devnet.near.chain import Chain, Options, open_chain
from devnet.near.errors import StorageFailed
from devnet.near.genesis import read_genesis
from devnet.near.rpc import Rpc
from devnet.near.rules import CHAIN_ID
from devnet.near.server import application, produce_blocks

HOST = "127.0.0.1"
MAX_CONNECTIONS = 512
SHUTDOWN_S = 2
SKIPPED_NS = 10**9  # how long a height takes that is skipped, when blocks are made on demand


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

    work = asyncio.Event()
    rpc = Rpc(chain, work.set)
    host, port = listener.getsockname()[:2]
    rpc.url = f"http://{host}:{port}"
    config = uvicorn.Config(
        application(rpc, failed),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    producing = asyncio.create_task(produce_blocks(chain, block_time, work, failed))
    # A chain that makes no blocks any more must not look alive, whatever the reason.
    producing.add_done_callback(lambda _: setattr(server, "should_exit", True))
    # The listener accepts already: whoever connects now is answered a moment later.
    publish_ready(directory, rpc_url=rpc.url, chain_id=chain.options.chain_id)
    await server.serve(sockets=[listener])
    producing.cancel()
    with suppress(asyncio.CancelledError):
        await producing
    if failures:
        raise failures[0]


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
