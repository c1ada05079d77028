"""Lanes of the escrow contract: which are free, which belong to a request, what was posted."""

from __future__ import annotations

from typing import Final

from deai.client.journal import MAX_LANES, Entry, Proposal
from deai.client.requests import Prepared
from deai.client.tools import Tools
from deai.errors import LimitExceeded

TRIES: Final = 64
"""Other processes that may take a lane from under our hands, one after the other."""


async def reserve(
    tools: Tools, prepared: Prepared, seed: bytes, created: float
) -> tuple[Entry, bool]:
    """Take a free lane for the request, in the journal; also whether this call took it."""
    account, info = tools.account, tools.ledger.info
    spec = prepared.spec(info, tools.random(32))
    for _ in range(TRIES):
        lane, nonce, since = await _free_lane(tools)
        entry = await tools.journal.reserve(
            chain=info.name,
            account=account,
            digest=prepared.digest,
            key=prepared.request.idempotency_key,
            lane=lane,
            nonce=nonce,
            since=since,
            seed=seed,
            spec=spec,
            policy=prepared.policy.label,
            created=created,
        )
        if entry is not None:
            return entry, True
        twin = await tools.journal.find(
            info.name, account, prepared.digest, prepared.request.idempotency_key
        )
        if twin is not None:
            return twin, False
    raise LimitExceeded("no free lane: too many tasks are being submitted at once")


async def already_posted(tools: Tools, entry: Entry) -> Proposal | None:
    """Which proposal of the request is on chain, if any."""
    proposals = await tools.journal.proposals(entry)
    if not proposals:
        return None
    lane = await tools.ledger.lane(entry.account, entry.lane)
    if lane.nonce < entry.nonce:
        return None
    for proposal in proposals:
        if await tools.ledger.task_events(proposal.task_id, since=entry.since):
            return proposal
    return None


async def keep_lane(tools: Tools, entry: Entry) -> Entry:
    """The entry with a lane and nonce that can still be used, moved if somebody used it."""
    for _ in range(TRIES):
        lane = await tools.ledger.lane(entry.account, entry.lane)
        if not lane.is_busy and lane.closed + 1 == entry.nonce:
            return entry
        moved = await tools.journal.move(entry, *await _free_lane(tools))
        entry = moved or entry
    raise LimitExceeded("no free lane: too many tasks are being submitted at once")


async def _free_lane(tools: Tools) -> tuple[int, int, int]:
    """`(lane, next nonce, newest block)` of the first lane that nobody uses."""
    held = await tools.journal.lanes(tools.ledger.info.name, tools.account)
    head = await tools.ledger.head()
    for lane in range(MAX_LANES):
        if lane not in held:
            record = await tools.ledger.lane(tools.account, lane)
            if not record.is_busy:
                return lane, record.closed + 1, head.number
    raise LimitExceeded(f"all {MAX_LANES} lanes of this account are busy")
