"""A task by a signed order on the devnet: real daemons, the real contract, no transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deai.money import UNIT
from tests.e2e.conftest import HONEST, Network, eventually, paid_in_full

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.chain, pytest.mark.timeout(1200)]


def test_an_order_is_computed_proven_and_settled_by_its_nodes(
    network: Network, portfolio: Path, tmp_path: Path
) -> None:
    target = tmp_path / "risk"
    funded = network.deai("orders", "fund", "5CT", "--yes")
    assert (funded["state"], funded["balance"]) == ("funded", str(5 * UNIT))
    done = network.submit(
        "portfolio-risk", portfolio, "--param", "paths=10000", "--lane", "order",
        "--output", str(target), *network.among(*HONEST),
    )  # fmt: skip
    assert (done["state"], done["lane"]) == ("completed", "order"), done["detail"]
    assert done["result"]["agreed"] >= 2
    assert not done["transactions"]
    checked = network.deai(
        "task", "verify-receipt", done["receipt"], "--output", str(target),
        "--input", str(portfolio),
    )  # fmt: skip
    assert checked["ok"]

    def settled() -> Any:
        shown = network.deai("task", "show", done["task_id"])
        return shown if shown["held"] == "0" else None

    shown = eventually(settled)
    paid_in_full(shown)
    assert shown["order"]["settlement"] == "settled"
    assert len(shown["transactions"]) == 1
    assert len(shown["payments"]) >= 2
    left = network.deai("orders", "status")
    assert int(left["balance"]) == 5 * UNIT - int(done["escrowed"])
