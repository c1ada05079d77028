"""The devnet's books: every account of the token, before and after, to the last unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from deai.chain.ledger import CHANNELS_CONTRACT, Ledger
from deai.errors import LedgerUnreachable
from deai.events import ChannelOpened, NodeRegistered, NodeSlashed, TokensMoved
from deai.ids import AccountId, ChannelId, NodeId

NOBODY: Final = frozenset({AccountId("0x" + "00" * 20), AccountId("system")})
"""On one side of a mint or burn, by chain."""
_READ_S: Final = 60.0


@dataclass(frozen=True)
class Books:
    """Balances of every account that ever held a token, and all mints and burns so far."""

    balances: dict[AccountId, int]
    vault: dict[AccountId, int]
    minted: int
    burned: int
    burn_due: int = 0
    """Slashed and still in the contract: NEAR's burns leave it later, all at once."""
    bounties: int = 0
    """Of what was slashed, what went to whoever showed the proof."""
    nodes: tuple[NodeId, ...] = ()
    channels: frozenset[ChannelId] = frozenset()
    """Everyone that was ever opened."""
    names: dict[AccountId, str] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        """What all accounts hold beyond what was minted and not burned: 0, or coins leaked."""
        return sum(self.balances.values()) - (self.minted - self.burned)


async def read_books(ledger: Ledger) -> Books:
    """Find every account in the token's own events and read its balance from the chain.

    Raises `LedgerUnreachable` when the chain does not answer in a minute.
    """
    accounts: set[AccountId] = set()
    nodes: list[NodeId] = []
    channels: set[ChannelId] = set()
    minted = burned = slashed = bounties = 0
    with trio.move_on_after(_READ_S) as scope:
        head = await ledger.head()
        async with ledger.follow(None) as batches:
            async for batch in batches:
                for record in batch.records:
                    if isinstance(event := record.event, TokensMoved):
                        accounts |= {event.sender, event.receiver}
                        minted += event.amount if event.sender in NOBODY else 0
                        burned += event.amount if event.receiver in NOBODY else 0
                    elif isinstance(event, NodeRegistered):
                        nodes.append(event.node)
                    elif isinstance(event, NodeSlashed):
                        slashed += event.burned
                        bounties += event.bounty
                    elif isinstance(event, ChannelOpened):
                        channels.add(event.channel_id)
                if batch.cursor.number >= head.number:
                    break
        accounts -= NOBODY
        balances, vault = {}, {}
        for account in sorted(accounts):
            found = await ledger.balances(account)
            balances[account], vault[account] = found.tokens, found.vault
    if scope.cancelled_caught:
        raise LedgerUnreachable("the books could not be read in a minute")
    return Books(
        balances, vault, minted, burned, burn_due=slashed - burned, bounties=bounties,
        nodes=tuple(nodes), channels=frozenset(channels),
    )  # fmt: skip


async def channels_difference(ledger: Ledger, books: Books) -> int:
    """Tokens of the channels' contract beyond what vouchers may still pay and clients get back.

    What waits there to be sent once more (NEAR) is owed too. 0 where there are no channels.
    """
    held = books.balances.get(ledger.info.contracts.get(CHANNELS_CONTRACT, AccountId("")), 0)
    records = [await ledger.channel(channel) for channel in sorted(books.channels)]
    return held - sum(record.remaining + record.due for record in records)


async def escrow_difference(
    ledger: Ledger, books: Books, lanes: list[tuple[AccountId, int]]
) -> int:
    """Tokens of the escrow contract beyond its vault accounts and the lanes' accrued fees.

    0 when no task is open: all that the contract holds is owed to somebody by name. Where it is
    the registry too (NEAR), it also holds every stake, and what is slashed until it is burned.
    """
    contracts = ledger.info.contracts
    held = books.balances.get(contracts["TaskEscrow"], 0)
    if contracts["NodeRegistry"] == contracts["TaskEscrow"]:
        held -= books.burn_due
        for node in books.nodes:
            record = await ledger.node(node)
            held -= 0 if record is None else record.stake + record.unbonding
    return held - sum(books.vault.values()) - await accrued_fees(ledger, lanes)


async def accrued_fees(ledger: Ledger, lanes: list[tuple[AccountId, int]]) -> int:
    """The protocol's fees that lie in the lanes until somebody collects them for the treasury."""
    return sum([(await ledger.lane(client, lane)).accrued for client, lane in lanes])
