"""The other local chain: anvil, run under the same contract as our own.

``python -m devnet.evm.anvil --dir DIR`` starts the binary that npm installs for the contracts,
funds the genesis accounts, writes ``DIR/ready.json`` and stays in front of it: SIGTERM ends both,
and anvil dies with this process however that dies. It charges Ethereum's storage price, keeps its
state in ``DIR/state.json`` when it is ended properly, and forgets what is newer than the last dump
on SIGKILL. Anvil 1.7.1 that made some 12,000 empty blocks (80 minutes of 0.4 s) leaves what is then
sent to it in its pool, until an ``evm_mine`` or a restart.
"""

import argparse
import ctypes
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import httpx

from deai.errors import ConfigError, DeaiError, NotSetUp
from devnet.evm.genesis import read_genesis
from devnet.evm.rules import GWEI, SEI_LOCAL_CHAIN_ID, Rules
from devnet.serving import locked, publish_ready

CONTRACTS: Final = Path(__file__).resolve().parents[2] / "contracts" / "sei"
INSTALL: Final = "npm install --no-save --prefix contracts/sei"
DUMP_INTERVAL_S: Final = 30
KEPT_STATES: Final = 16
"""With the newest alone, a read of `latest` fails whenever a block comes before it is served."""
STOP_S: Final = 20
RPC_TIMEOUT_S: Final = 10
PR_SET_PDEATHSIG: Final = 1

_LISTENING: Final = re.compile(r"Listening on 127\.0\.0\.1:(\d+)")
_MACHINES: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def find_anvil(contracts: Path = CONTRACTS) -> Path:
    """Return the anvil binary: npm's below ``contracts``, else one on the search path.

    The binary is called directly: npm's launcher would put a second process in between. Raises
    :class:`NotSetUp` with the command that installs it.
    """
    system, machine = platform.system().lower(), _MACHINES.get(platform.machine(), "unknown")
    package = contracts / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}"
    binary = package / "bin" / "anvil"
    if binary.is_file():
        return binary
    on_path = shutil.which("anvil")
    if on_path is None:
        raise NotSetUp("anvil is not installed", hint=f"Install it: {INSTALL}")
    return Path(on_path)


@contextmanager
def anvil(
    binary: Path, directory: Path, rules: Rules, genesis: dict[bytes, int], **flags: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run anvil with its state in ``directory``; yields the process and its port.

    ``flags`` are further options without their dashes. Balances are given out (in wei) only when
    there is no earlier state. Raises :class:`DeaiError` if anvil does not come up.
    """
    state = directory / "state.json"
    begins = not state.exists()
    options = {
        "port": "0",
        "chain-id": str(rules.chain_id),
        "hardfork": "prague",
        "accounts": "0",
        "gas-limit": str(rules.block_gas_limit),
        "block-base-fee-per-gas": str(rules.base_fee_floor),
        "state": str(state),
        "state-interval": str(DUMP_INTERVAL_S),
    } | {name.replace("_", "-"): value for name, value in flags.items()}
    command = [str(binary), f"--prune-history={KEPT_STATES}"]
    for name, value in options.items():
        command += [f"--{name}", value]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_die_with_parent,
    )
    try:
        assert process.stdout is not None
        port = _port(process.stdout)
        if begins:
            _fund(port, genesis)
        yield process, port
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    options = argparse.ArgumentParser(
        prog="python -m devnet.evm.anvil", description=(__doc__ or "").partition("\n")[0]
    )
    options.add_argument("--dir", type=Path, required=True, help="where the chain is kept")
    options.add_argument("--port", type=int, default=0, help="0: one that is free")
    options.add_argument("--block-time", type=float, default=0.4, help="seconds between blocks")
    options.add_argument("--chain-id", type=int, default=SEI_LOCAL_CHAIN_ID)
    options.add_argument("--genesis", type=Path, help='JSON file {"0xaddress": wei}')
    options.add_argument("--anvil", type=Path, help="the binary, if it is not npm's")
    flags = options.parse_args()
    try:
        with locked(flags.dir):
            _supervise(flags)
    except DeaiError as error:
        print(f"error: {error} {error.hint}".rstrip(), file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


def _supervise(flags: argparse.Namespace) -> None:
    binary = flags.anvil or find_anvil()
    rules = Rules(chain_id=flags.chain_id, base_fee_floor=50 * GWEI)
    genesis = read_genesis(flags.genesis) if flags.genesis else {}
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: _stop(stopping, received))
    try:
        running = anvil(
            binary,
            flags.dir,
            rules,
            genesis,
            port=str(flags.port),
            block_time=str(flags.block_time),
        )
        with running as (process, port):
            publish_ready(
                flags.dir,
                rpc_url=f"http://127.0.0.1:{port}",
                ws_url=f"ws://127.0.0.1:{port}",
                chain_id=rules.chain_id,
            )
            assert process.stdout is not None
            for _line in process.stdout:
                pass  # anvil writes some lines for every block: read them so that it never waits
        raise DeaiError(f"anvil ended by itself with status {process.returncode}")
    except InterruptedError:
        return


def _stop(stopping: list[int], received: int) -> None:
    # Only the first signal interrupts; the second one must not interrupt the stopping.
    if not stopping:
        stopping.append(received)
        raise InterruptedError


def _port(output: IO[str]) -> int:
    seen: list[str] = []
    for line in output:
        found = _LISTENING.search(line)
        if found:
            return int(found[1])
        seen = [*seen[-9:], line.strip()]
    raise ConfigError("anvil did not start: " + " ".join(seen))


def _fund(port: int, genesis: dict[bytes, int]) -> None:
    batch = [
        {
            "jsonrpc": "2.0",
            "id": position,
            "method": "anvil_setBalance",
            "params": ["0x" + address.hex(), hex(balance)],
        }
        for position, (address, balance) in enumerate(genesis.items())
    ]
    if not batch:
        return
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}", json=batch, timeout=RPC_TIMEOUT_S)
        refused = [entry for entry in answer.json() if "error" in entry]
    except (httpx.HTTPError, ValueError) as error:
        raise DeaiError(f"anvil did not take the genesis balances: {error}") from error
    if refused:
        raise DeaiError(f"anvil did not take a genesis balance: {refused[0]['error']}")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
