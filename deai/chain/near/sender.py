"""One key's outgoing transactions: each intent takes effect once, whatever dies in between.

The key may sign for more accounts than the one it was given for (`NearCall.by`); nonces are given
out for all of them together, so each account sees them grow.

A nonce is given out under a lock and written down with the signed bytes before anybody hears of
them. NEAR takes a transaction when its nonce is above the key's and the block that dates it is not
older than a day; it never takes one twice. So the bytes are sent again until the chain knows them.
A transaction is *provably dead* only when every endpoint says, of a final block, that its nonce is
spent or its date has expired, **and** none knows its hash; then the intent gets a new nonce.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.chain.background import Background
from deai.chain.flights import Flights
from deai.chain.keyed import KeyedLocks
from deai.chain.ledger import Transaction
from deai.chain.near.keys import NearKey
from deai.chain.near.queries import (
    AccessKey,
    access_key,
    free_money,
    read_access_key,
    read_outcomes,
    tx_status,
    view_account,
)
from deai.chain.near.refusals import failed, invalid_transaction
from deai.chain.near.rpc import FINAL as AT_FINAL, RpcError
from deai.chain.near.steps import TGAS, NearCall
from deai.chain.near.transaction import sign
from deai.chain.outbox import FINAL, FLYING, REVERTED, Attempt, Intent, Outbox
from deai.chain.pool import EndpointFailed, Pool, Request, sensible
from deai.chain.refusals import refusal
from deai.errors import LedgerRejected, LedgerUnreachable, MalformedMessage
from deai.ids import AccountId, parse_base58

VALID_FOR_BLOCKS: Final = 86_400
"""After the block whose hash it names a transaction can be taken (mainnet and testnet)."""
GAS_PRICE: Final = 10**8
"""YoctoNEAR a gas: the least, and for years the price; only to see early what is lacking."""
OWN_GAS: Final = 3 * TGAS
"""About what a transaction itself costs beside the gas attached to its calls."""

CRASH_POINTS: Final = (
    "prepared",  # rights and money are checked, nothing is written
    "stored",  # nonce and signed bytes are on disk, nobody has heard of them
    "broadcast",  # endpoints have the bytes
    "mined",  # all receipts are final, the outcome is not written
    "finished",  # the outcome is on disk, the caller has not heard of it
    "renewed",  # a new nonce is on disk after the old bytes were found dead, not sent
)
"""Where the process may die; a test kills it at each. The hook is called with the name."""

_DATED: Final = frozenset({"InvalidNonce", "NonceTooLarge", "Expired"})
"""What may be said of bytes that are already in a block, or are dead."""
_STEPS: Final = msgspec.json.Decoder(NearCall)


class _Terms(msgspec.Struct, frozen=True):
    """Of a stored `NearCall`: who signs, and whether only its end counts."""

    by: AccountId | None = None
    mends: bool = False


_TERMS: Final = msgspec.json.Decoder(_Terms)


def no_crash(_: str) -> None:
    """The hook of everyday life."""


class SenderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds of this machine."""

    poll_s: float = 0.1
    """Between looks at the chain while something is in flight."""
    stuck_s: float = 3.0
    """So long unknown to the chain, and bytes are sent again."""
    dead_s: float = 5.0
    """So long must a spent nonce be without a transaction of ours before it is given up."""
    patience_s: float = 120.0
    """The longest wait for finality; the transaction stays in the outbox after it."""
    window: int = 32


class Sender:
    """Signs, numbers, sends and watches. `run` has to run while `send` is used."""

    def __init__(
        self,
        pool: Pool,
        key: NearKey,
        outbox: Outbox,
        *,
        crash: Callable[[str], None] = no_crash,
        settings: SenderSettings | None = None,
    ) -> None:
        self._pool = pool
        self._key = key
        self._outbox = outbox
        self._crash = crash
        self._settings = settings if settings is not None else SenderSettings()
        self._nonces = trio.Lock()
        self._next = 0
        self._keys = KeyedLocks()
        self._flights = Flights(outbox, self._settings.patience_s)
        self._suspects: set[str] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier life left in flight, then watch for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for intent in await self._outbox.run(self._outbox.flying):
                self._take_off(intent)
            task_status.started()
            await trio.sleep_forever()

    async def send(self, call: NearCall, *, kind: str, key: str) -> Transaction:
        """Carry an intent out once and wait until it is final.

        Raises `LedgerRejected` with the contract's own error, `LedgerUnreachable`.
        """
        async with self._keys.alone(key):
            intent = await self._outbox.run(self._outbox.find, key)
            if intent is None or intent.state == REVERTED:
                await self._launch(call, kind, key)
            elif intent.state == FINAL:
                return intent.transaction
            else:
                self._flights.solved(key)  # it is tried again: wait for what comes of that
            return await self._flights.land(key)

    async def is_known(self, key: str) -> bool:
        """Whether an intent is in flight or has taken effect."""
        intent = await self._outbox.run(self._outbox.find, key)
        return intent is not None and intent.state != REVERTED

    async def check(self, call: NearCall) -> AccessKey:
        """The key as it stands now, if it may sign the call and the money suffices.

        Raises `LedgerRejected` (`Forbidden`, `GasMoney`), `LedgerUnreachable`.
        """
        by = self._by(call.by)
        account, found = await self._pool.batch(
            [view_account(by.account), access_key(by.account, by.public_key)]
        )
        with sensible():
            free = free_money(account)
            now = read_access_key(found)
        needed = (call.gas + OWN_GAS) * GAS_PRICE
        if free is None:
            raise refusal("GasMoney", {"available": 0, "needed": needed})
        if now.nonce is None:
            raise refusal("Forbidden", {"caller": by.account})
        if now.contract is not None:
            if not call.is_for_key(now.contract, now.methods):
                raise refusal("Forbidden", {"caller": by.account})
            if now.allowance is not None and now.allowance < needed:
                raise refusal("GasMoney", {"available": now.allowance, "needed": needed})
        if free < call.deposit + needed:
            raise refusal("GasMoney", {"available": free, "needed": call.deposit + needed})
        return now

    async def _launch(self, call: NearCall, kind: str, key: str) -> None:
        now = await self.check(call)
        self._crash("prepared")
        async with self._nonces:
            await self._flights.room(self._settings.window)
            used = await self._outbox.run(self._outbox.next_nonce)
            # From here to the table a cancellation would lose a nonce.
            with trio.CancelScope(shield=True):
                attempt = self._sign(call, max(self._next, used, now.next_nonce), now)
                intent = Intent(
                    key=key, kind=kind, to=call.to, data=msgspec.json.encode(call),
                    value=call.deposit, gas=call.gas, nonce=attempt.nonce, state=FLYING,
                    attempts=(attempt,),
                )  # fmt: skip
                await self._outbox.run(self._outbox.add, intent)
                self._next = attempt.nonce + 1
                self._crash("stored")
                self._take_off(intent)

    def _sign(self, call: NearCall, nonce: int, now: AccessKey) -> Attempt:
        with sensible():
            dated = parse_base58(now.block_hash, 32)
        signed = sign(call, self._by(call.by), nonce, dated)
        return Attempt(
            hash=signed.hash, nonce=nonce, raw=signed.raw, expires=now.height + VALID_FOR_BLOCKS
        )

    def _take_off(self, intent: Intent) -> None:
        if self._nursery is None:
            raise RuntimeError("the sender does not run")
        self._flights.take_off(intent)
        self._nursery.start_soon(self._fly, intent.key)

    async def _fly(self, key: str) -> None:
        """Send and watch one intent until its outcome is on disk."""
        sent_at = suspected_at = float("-inf")
        async with trio.open_nursery() as nursery:
            while True:
                intent, now = self._flights.flying[key], trio.current_time()
                if now - sent_at > self._settings.stuck_s:
                    sent_at = now
                    nursery.start_soon(self._broadcast, intent)
                # The pool rests and tries others; what is in flight stays there.
                with suppress(LedgerUnreachable, MalformedMessage):
                    if await self._look(intent):
                        nursery.cancel_scope.cancel()
                        return
                    if key not in self._suspects:
                        suspected_at = now
                    elif now - suspected_at > self._settings.dead_s:
                        self._suspects.discard(key)
                        if await self._is_dead(intent):
                            await self._renew(intent)
                            sent_at = float("-inf")
                await trio.sleep(self._settings.poll_s)

    async def _broadcast(self, intent: Intent) -> None:
        """Send the newest bytes of an intent, and hear what endpoints think of them."""
        answers = await self._pool.broadcast(intent.current[-1].raw)
        self._crash("broadcast")
        heard = [one for one in answers if not isinstance(one, EndpointFailed)]
        refused = [one.invalid for one in heard if isinstance(one, RpcError)]
        if not heard or len(refused) < len(heard):
            if heard:
                self._flights.solved(intent.key)
            return
        reason = next((one for one in refused if one is not None), None)
        if reason is None:
            return
        if _name(reason) in _DATED:
            self._suspects.add(intent.key)
            return
        self._flights.trouble(intent.key, invalid_transaction(reason, self._signer_of(intent)))

    async def _look(self, intent: Intent) -> bool:
        """Write the outcome of an intent if it is final; whether it was."""
        requests = self._statuses(intent)
        for request, answer in zip(requests, await self._pool.batch(requests), strict=True):
            if _is_final(answer):
                return await self._settle(intent, request)
        return False

    def _statuses(self, intent: Intent) -> list[Request]:
        by = self._signer_of(intent)
        return [tx_status(one.hash, by) for one in intent.attempts]

    def _by(self, account: AccountId | None) -> NearKey:
        return self._key if account is None else NearKey(account, self._key.signer)

    def _signer_of(self, intent: Intent) -> AccountId:
        return self._by(_TERMS.decode(intent.data).by).account

    async def _settle(self, intent: Intent, request: Request) -> bool:
        (answer,) = await self._pool.agreed([request], _facts)
        if not _is_final(answer):
            return False  # not known everywhere yet: look again
        ran_in = list(dict.fromkeys(one.block_hash for one in read_outcomes(answer)))
        head, *blocks = await self._pool.batch(
            [("block", AT_FINAL), *(("block", {"block_id": hash_}) for hash_ in ran_in)]
        )
        if any(_height(block) > _height(head) for block in blocks):
            return False  # everything has run, and not all of it is final
        outcome = self._outcome(intent, answer, blocks[0])
        self._crash("mined")
        await self._outbox.run(self._outbox.finish, outcome)
        self._crash("finished")
        self._suspects.discard(intent.key)
        self._flights.arrived(intent.key)
        return True

    def _outcome(self, intent: Intent, answer: dict[str, Any], block: object) -> Intent:
        """What became of a transaction and of every receipt that it led to.

        py-near takes a transaction for good whose last receipt succeeded; here any failed receipt
        is the contract's refusal (NEP-141 gives tokens back and calls that a success), unless the
        contract makes it good itself.
        """
        terms = _TERMS.decode(intent.data)
        try:
            outcomes = [
                one["outcome"]
                for one in (answer["transaction_outcome"], *answer["receipts_outcome"])
            ]
            gas = sum(int(one["gas_burnt"]) for one in outcomes)
            burnt = sum(int(one["tokens_burnt"]) for one in outcomes)
            header: dict[str, Any] = block["header"]  # type: ignore[index]
            height, time = int(header["height"]), int(header["timestamp"]) // 10**9
            failures = [
                one["status"]["Failure"]
                for one in ([answer] if terms.mends else outcomes)
                if isinstance(one["status"], dict) and "Failure" in one["status"]
            ]
            hash_ = str(answer["transaction"]["hash"])
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedMessage(f"not the outcome of a transaction: {error!r}") from error
        refused = failed(failures[0], self._by(terms.by).account) if failures else None
        return msgspec.structs.replace(
            intent,
            state=FINAL if refused is None else REVERTED,
            hash=hash_,
            block=height,
            time=time,
            gas_used=gas,
            gas_price=burnt // gas if gas else 0,
            refusal=None if refused is None else (refused.name, refused.arguments),
        )

    async def _is_dead(self, intent: Intent) -> bool:
        """Whether every endpoint says that no block can hold our bytes and none holds them."""
        by, too_old = self._signer_of(intent), await self._is_too_old(intent)
        for (found,) in await self._pool.each([access_key(by, self._key.public_key)]):
            key = read_access_key(found)
            for one in intent.attempts:
                # A key that was taken back gets nonces above all earlier ones if it returns.
                spent = key.nonce is None or one.nonce <= key.nonce
                if not spent and not too_old and key.height <= one.expires:
                    return False
        for answers in await self._pool.each(self._statuses(intent)):
            for answer in answers:
                unknown = isinstance(answer, RpcError) and (
                    answer.name == "UNKNOWN_TRANSACTION" or answer.invalid is not None
                )
                if not unknown:
                    return False
        return True

    async def _is_too_old(self, intent: Intent) -> bool:
        """Whether all endpoints call the bytes expired: some networks allow less than a day."""
        answers = await self._pool.broadcast(intent.current[-1].raw)
        reasons = [one.invalid if isinstance(one, RpcError) else None for one in answers]
        everywhere = len(answers) == len(self._pool.health)
        return everywhere and all(one is not None and _name(one) == "Expired" for one in reasons)

    async def _renew(self, intent: Intent) -> None:
        call = _STEPS.decode(intent.data)
        try:
            now = await self.check(call)
        except LedgerRejected as error:
            self._flights.trouble(intent.key, error)
            return
        async with self._nonces:
            used = await self._outbox.run(self._outbox.next_nonce)
            attempt = self._sign(call, max(self._next, used, now.next_nonce), now)
            await self._flights.replace(intent, attempt)
            self._next = attempt.nonce + 1
            self._crash("renewed")


@asynccontextmanager
async def open_sender(
    pool: Pool,
    key: NearKey,
    path: Path | None,
    identity: str,
    *,
    crash: Callable[[str], None] = no_crash,
    settings: SenderSettings | None = None,
) -> AsyncIterator[Sender]:
    """A running sender over the outbox at `path` (None: in memory)."""
    outbox = Outbox(path, identity)
    try:
        async with Background() as nursery:
            sender = Sender(pool, key, outbox, crash=crash, settings=settings)
            await nursery.start(sender.run)
            yield sender
    finally:
        with trio.CancelScope(shield=True):
            await outbox.run(outbox.close)


def _is_final(answer: object) -> bool:
    """Whether all receipts but refunds have run; their blocks may have to become final yet."""
    return (
        isinstance(answer, dict)
        and answer.get("final_execution_status") in ("EXECUTED", "FINAL")
        and bool(answer.get("receipts_outcome"))
    )


def _height(block: Any) -> int:  # noqa: ANN401 - JSON
    try:
        return int(block["header"]["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage("not a block") from error


def _name(reason: object) -> str:
    """What a reason is called: a text, or the one key of an object."""
    return str(next(iter(reason), "")) if isinstance(reason, dict) else str(reason)


def _facts(answers: Sequence[Any]) -> object:
    """What two endpoints must tell alike about a transaction, whatever else they add."""
    return [_fact(answer) for answer in answers]


def _fact(answer: object) -> object:
    if not _is_final(answer):
        return answer.name if isinstance(answer, RpcError) else None
    outcomes = [answer["transaction_outcome"], *answer["receipts_outcome"]]  # type: ignore[index]
    return [
        (one.get("id"), one.get("block_hash"), str(one.get("outcome", {}).get("status")))
        for one in outcomes
    ]
