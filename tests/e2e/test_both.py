"""One node on both chains: a stranger's home set up on each, one daemon, paid on each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import (
    PATIENCE_S,
    ROOT,
    Network,
    daemon,
    devnet,
    eventually,
    paid_in_full,
)
from tests.e2e.test_near import _lacks

pytestmark = [
    pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(_lacks()), reason=f"no NEAR devnet: {_lacks()}"),
]  # fmt: skip
CHAINS = ("sei", "near")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A devnet of both chains."""
    with devnet(tmp_path_factory.mktemp("both"), "--chain", "both", "--nodes", "3") as running:
        yield running


@pytest.fixture(scope="module")
def home(both: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's home: set up on one chain, then on the other, each in two runs."""
    made = tmp_path_factory.mktemp("stranger") / "home"
    for chain in CHAINS:
        init = [
            "--home", str(made), "--chain", chain, "node", "init", "--non-interactive",
            "--network", both.document["network_file"], "--listen", "/ip4/127.0.0.1/tcp/0",
        ]  # fmt: skip
        lacks = both.plain(*init, status=5)["needs"]
        both.devnet("faucet", lacks["address"], lacks["tokens"])
        assert both.plain(*init)["needs"] is None
    # Epochs of a minute use up in ten what an operator begins with.
    operator = json.loads((made / "registration.json").read_text())["operator"]
    both.devnet("faucet", operator, "0")
    return made


def status(both: Network, home: Path) -> Any:
    return both.plain("--home", str(home), "node", "status", status=None)


def is_well(both: Network, home: Path) -> Any:
    """The node's status, once nothing is wrong any more."""
    found = status(both, home)
    return found if found.get("problems") == [] else None


def submit(both: Network, chain: str, source: Path, node: str) -> Any:
    """A task of one seat for one node, on one chain."""
    return both.task(
        "--chain", chain, "task", "submit", "embedding", "--input", str(source),
        "--policy", "none/1", "--node", node,
    )  # fmt: skip


def test_the_front_page_can_be_followed_word_for_word(both: Network, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    section = text.partition("## A network on your machine\n")[2].partition("\n## ")[0]
    left_out = re.compile(r"deai (devnet (up|down)|node (init|run))")
    shown = ("    deai ", "    printf ")
    lines = [line[4:] for line in section.splitlines() if line.startswith(shown)]
    (tmp_path / ".deai").mkdir()
    (tmp_path / ".deai/devnet").symlink_to(both.directory)
    node = both.document["nodes"][0]["chains"]["sei"]["node_id"]
    shell = f'deai() {{ "{sys.executable}" -m deai "$@"; }}; set -e; '
    for line in lines:
        if left_out.match(line):
            continue
        done = subprocess.run(
            ["bash", "-c", shell + line.replace("NODE", node)],
            capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=tmp_path,
            env={**both.environment, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout[-2000:], done.stderr[-2000:])
    rows = [json.loads(row) for row in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["output"] for row in rows] == ["a cat", "a dog"]
    assert (tmp_path / "vectors.npy").exists()


def test_a_stranger_serves_both_chains_and_is_paid_on_each(
    both: Network, home: Path, texts: Path
) -> None:
    with daemon(both, home) as ready:
        assert set(ready["nodes"]) == set(CHAINS)
        document = eventually(partial(is_well, both, home))
        assert {name: part["node_id"] for name, part in document["chains"].items()} == (
            ready["nodes"]
        )
        assert {part["state"] for part in document["chains"].values()} == {"running"}
        paid = {}
        for chain, node in ready["nodes"].items():
            eventually(partial(both.is_online, node))
            done = submit(both, chain, texts, node)
            assert (done["state"], done["chain"]) == ("completed", chain)
            paid_in_full(done)
            paid[chain] = done["paid"]

        def settled() -> Any:
            earned = both.plain("--home", str(home), "node", "earnings")
            return earned if earned["tasks"]["paid"] == len(CHAINS) else None

        earned = eventually(settled)
        assert {name: one["paid"] for name, one in earned["by_chain"].items()} == paid
        assert int(earned["paid"]) == sum(map(int, paid.values()))

        def vaults() -> Any:
            chains = status(both, home)["chains"]
            return {name: part["balance"].get("vault") for name, part in chains.items()}

        eventually(lambda: vaults() == paid)
    after = both.plain("--home", str(home), "node", "earnings")
    assert after == earned, "the journal says the same when nobody runs"


def test_what_both_owners_sign_while_the_node_runs_is_published(both: Network, home: Path) -> None:
    with daemon(both, home) as ready:
        twin = ["--twin", ready["nodes"]["near"]]
        for chain, more in (("sei", twin), ("near", [])):
            at = ["--home", str(home), "--chain", chain]
            both.plain(*at, "stake", "bind", "--yes", *more)

        def bound() -> Any:
            found = both.deai("network", "node", ready["nodes"]["sei"])["bound"]
            return found["node_id"] if found is not None else None

        assert eventually(bound) == ready["nodes"]["near"]
        eventually(partial(is_well, both, home))


@pytest.mark.parametrize("down", CHAINS)
def test_a_chain_that_is_down_is_said_and_the_other_goes_on(
    both: Network, home: Path, texts: Path, down: str
) -> None:
    (up,) = set(CHAINS) - {down}
    both.devnet("kill", down)
    try:
        with daemon(both, home) as ready:

            def said() -> bool:
                document = status(both, home)
                reachable = {name: one["reachable"] for name, one in document["chains"].items()}
                silent = {
                    one["chain"]
                    for one in document["problems"]
                    if one["code"] == "ledger_unreachable"
                }
                is_right = (reachable, silent) == ({down: False, up: True}, {down})
                return is_right and document["state"] == "running"

            eventually(said)
            done = submit(both, up, texts, ready["nodes"][up])
            assert done["state"] == "completed"
            both.devnet("start", down)
            eventually(lambda: status(both, home)["chains"][down]["state"] == "running")
            done = submit(both, down, texts, ready["nodes"][down])
            assert done["state"] == "completed"
    finally:
        both.devnet("start", down)
