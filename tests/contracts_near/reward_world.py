"""The rewards contract and the token on the embedded chain.

Leaves, roots and paths come from the core (`deai.claims`): what is paid here also shows that
Python and Rust mean the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deai import claims
from deai.claims import Claim, ClaimTree, Share
from deai.ids import AccountId, hexed
from deai.money import UNIT, Amount
from deai.signing import Domain
from devnet.near.chain import Chain
from devnet.near.rules import NEAR
from tests.contracts_near.world import (
    ARTIFACTS,
    CHAIN,
    CLIENT,
    EPOCH,
    GUARDIAN,
    OWNER,
    OWNERS,
    STRANGER,
    TOKEN,
    Ground,
    a_chain,
)
from tests.devnet.near.tools import FakeClock, Result

REWARDS: Final = "rewards.deai.near"
OTHER_REWARDS: Final = "rewards-2.deai.near"
PROPOSER: Final = "proposer.deai.near"
POOR: Final = "poor.near"  # has no place in the token contract
DELAY: Final = 3600
RECORD: Final = NEAR // 800  # more than the longest account's record costs
STATEMENT: Final = hexed(b"\x05" * 32)
PARAMETERS: Final = {
    "epoch_seconds": EPOCH, "delay": DELAY, "owner_delay": 2 * 24 * 3600,
}  # fmt: skip


class RewardWorld(Ground):
    """Contracts deployed; a client with tokens."""

    contract = REWARDS

    def __init__(self, chain: Chain, clock: FakeClock) -> None:
        super().__init__(chain, clock)
        self.domain = Domain(claims.REWARDS_NAME, CHAIN, AccountId(REWARDS))
        self.deploy_token((CLIENT, REWARDS, OTHER_REWARDS, *OWNERS[:2]))
        self.deploy(REWARDS)
        self.give(CLIENT, 10**4 * UNIT)

    def deploy(self, contract: str, token: str = TOKEN, chain_id: str = CHAIN) -> None:
        code = (ARTIFACTS / "rewards.wasm").read_bytes()
        self.set_up(
            contract, code, token=token, chain_id=chain_id, owner=OWNER, proposer=PROPOSER,
            guardian=GUARDIAN, parameters=PARAMETERS,
        )  # fmt: skip

    # --- forms ------------------------------------------------------------------------------

    def tree(self, owed: Mapping[str, int], domain: Domain | None = None) -> ClaimTree:
        """Over accounts in the order of their names."""
        leaves = [Share(AccountId(name), Amount(owed[name])) for name in sorted(owed)]
        return ClaimTree(domain or self.domain, leaves)

    @property
    def over(self) -> int:
        """The last epoch that is over."""
        return claims.ended_before(self.now, EPOCH)

    # --- calls ------------------------------------------------------------------------------

    def fund(
        self, amount: int, shares: Sequence[tuple[str, int]] = (), *, reason: int = 2,
        by: str = CLIENT, gas: int = 60,
    ) -> Result:  # fmt: skip
        """Without shares: the pot."""
        pairs = [[account, str(part)] for account, part in shares]
        return self.pay_in(
            by, amount, {"reason": reason, "shares": pairs} if pairs else "", gas=gas
        )

    def propose(
        self, tree: ClaimTree, total: int, *, epoch: int | None = None, by: str = PROPOSER
    ) -> Result:
        arguments = {
            "epoch": self.over if epoch is None else epoch, "root": hexed(tree.root),
            "total": str(total), "statement": STATEMENT,
        }  # fmt: skip
        return self.call(by, "propose", arguments, gas=10)

    def activate(self, owed: Mapping[str, int], total: int | None = None) -> ClaimTree:
        """A root over what accounts are owed, in force."""
        tree = self.tree(owed)
        self.advance(EPOCH)
        done = self.propose(tree, sum(owed.values()) if total is None else total)
        assert done.value is None, done
        self.advance(DELAY)
        return tree

    def claim(
        self, tree: ClaimTree, account: str, *, deposit: int = RECORD, gas: int = 30,
        contract: str = "",
    ) -> Result:  # fmt: skip
        """By somebody whose business it is not."""
        found = tree.claim(AccountId(account))
        assert found is not None
        return self.bring(document(found), deposit=deposit, gas=gas, contract=contract)

    def bring(
        self, arguments: dict[str, Any], *, deposit: int = RECORD, gas: int = 30, contract: str = ""
    ) -> Result:
        return self.call(
            STRANGER, "claim", arguments, deposit=deposit, gas=gas, receiver=contract
        )  # fmt: skip

    # --- what is where ----------------------------------------------------------------------

    def claimed_by(self, account: str) -> int:
        return int(self.view("claimed_by", account=account))

    def roots(self) -> dict[str, Any]:
        found: dict[str, Any] = self.view("roots")
        return found

    def check_books(self) -> None:
        """The contract holds what came in and was not paid; no more was paid than promised."""
        paid, total = (int(self.roots()["active"][name]) for name in ("paid", "total"))
        received = int(self.view("info")["received"])
        assert self.tokens(REWARDS) == received - paid
        assert paid <= total <= received


def document(claim: Claim) -> dict[str, Any]:
    return {
        "account": claim.account, "cumulative": str(claim.cumulative_amount),
        "sides": str(claim.sides), "path": [hexed(sibling) for sibling in claim.path],
    }  # fmt: skip


@contextmanager
def a_reward_world(directory: Path) -> Iterator[RewardWorld]:
    """A chain with everything on it."""
    accounts = (
        TOKEN, REWARDS, OTHER_REWARDS, OWNER, GUARDIAN, PROPOSER, CLIENT, STRANGER, POOR,
        *OWNERS[:2],
    )  # fmt: skip
    with a_chain(directory, accounts) as (chain, clock):
        yield RewardWorld(chain, clock)
        chain.settle()
