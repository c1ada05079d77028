"""One account's outgoing transactions: each intent takes effect once, whatever dies in between.

A nonce is given out under a lock and written down with the signed bytes before anybody hears of
them. The chain's own count of the account's transactions is the truth: every nonce below it is
spent, by one of our attempts or (if no endpoint knows a receipt of any) by somebody else, and
only then does the intent get a new nonce. Only the lowest nonce in flight can be stuck; that one
gets a higher fee, the others the same bytes again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.chain.background import Background
from deai.chain.flights import Flights
from deai.chain.keyed import KeyedLocks
from deai.chain.ledger import Transaction
from deai.chain.outbox import FINAL, FLYING, REVERTED, Attempt, Intent, Outbox
from deai.chain.pool import Pool, Request, sensible
from deai.chain.refusals import refusal
from deai.chain.sei.abi import read_error
from deai.chain.sei.calls import ContractCall
from deai.chain.sei.quantities import quantity, wei
from deai.chain.sei.rpc import RpcError
from deai.chain.sei.transaction import Envelope, sign
from deai.errors import LedgerRejected, LedgerUnreachable, MalformedMessage
from deai.ids import hexed
from deai.signing import Signer

GWEI: Final = 10**9

CRASH_POINTS: Final = (
    "prepared",  # a gas limit and a fee are known, nothing is written
    "stored",  # nonce and signed bytes are on disk, nobody has heard of them
    "broadcast",  # endpoints have the bytes
    "mined",  # a receipt was seen, its outcome is not written
    "finished",  # the outcome is on disk, the caller has not heard of it
    "raised",  # a higher fee is signed and on disk, not sent
    "renewed",  # a new nonce is on disk after the old bytes were found dead, not sent
)
"""Where the process may die; a test kills it at each. The hook is called with the name."""

_KNOWN: Final = ("already known", "known transaction", "already in mempool", "already imported",
                 "already exists")  # fmt: skip
_CHEAP: Final = ("underpriced", "less than block base fee", "fee too low", "fee cap",
                 "max fee per gas")  # fmt: skip


def no_crash(_: str) -> None:
    """The hook of everyday life."""


class SenderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds of this machine, fees in wei for each gas."""

    poll_s: float = 0.1
    """Between looks at the chain while something is in flight."""
    stuck_s: float = 3.0
    """So long without progress, and bytes are sent again; twice, and the fee is raised."""
    dead_s: float = 5.0
    """So long must a spent nonce be without a receipt of ours before it is given up."""
    patience_s: float = 120.0
    """The longest wait for finality; the transaction stays in the outbox after it."""
    window: int = 32
    most_fee: int = 4_000 * GWEI


class Sender:
    """Signs, numbers, sends and watches. `run` has to run while `send` is used."""

    def __init__(
        self,
        pool: Pool,
        signer: Signer,
        chain_id: int,
        outbox: Outbox,
        *,
        crash: Callable[[str], None] = no_crash,
        settings: SenderSettings | None = None,
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._chain_id = chain_id
        self._outbox = outbox
        self._crash = crash
        self._settings = settings if settings is not None else SenderSettings()
        self._nonces = trio.Lock()
        self._next: int | None = None
        self._keys = KeyedLocks()
        self._flights = Flights(outbox, self._settings.patience_s)
        self._count = -1
        self._progress_at = 0.0
        self._rounds = 0
        self._missing_since: dict[str, float] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier life left in flight, then watch for ever."""
        for intent in await self._outbox.run(self._outbox.flying):
            self._take_off(intent)
        task_status.started()
        if self._flights.flying:
            await self._resend(self._sorted())
        while True:
            await self._flights.departure()
            # The pool rests and tries others; what is in flight stays there.
            with suppress(LedgerUnreachable, MalformedMessage):
                await self._look()
            await trio.sleep(self._settings.poll_s)

    async def send(self, call: ContractCall, *, kind: str, key: str) -> Transaction:
        """Carry an intent out once and wait until it is final.

        Raises `LedgerRejected` with the contract's own error, `LedgerUnreachable`.
        """
        async with self._keys.alone(key):
            intent = await self._outbox.run(self._outbox.find, key)
            if intent is None or intent.state == REVERTED:
                await self._launch(call, kind, key)
            elif intent.state == FINAL:
                return intent.transaction
            return await self._flights.land(key)

    async def estimate(self, call: ContractCall) -> int:
        """The gas that a call needs now; raises `LedgerRejected` if it would be refused."""
        (answer,) = await self._pool.batch([self._estimation(call)])
        return self._gas(answer)

    async def nonce_of(self, key: str) -> int:
        """The nonce under which a final intent took effect."""
        intent = await self._outbox.run(self._outbox.find, key)
        if intent is None:
            raise LedgerUnreachable(f"nothing was sent for {key}")
        return intent.nonce

    async def next_nonce(self, key: str) -> int:
        """The nonce that the next new intent gets, or that of `key` if it was sent before."""
        intent = await self._outbox.run(self._outbox.find, key)
        if intent is not None and intent.state != REVERTED:
            return intent.nonce
        return self._next if self._next is not None else await self._first_nonce()

    async def _launch(self, call: ContractCall, kind: str, key: str) -> None:
        gas, fee, tip = await self._price(call)
        self._crash("prepared")
        async with self._nonces:
            await self._flights.room(self._settings.window)
            if self._next is None:
                self._next = await self._first_nonce()
            # From here to the table a cancellation would lose a nonce.
            with trio.CancelScope(shield=True):
                attempt = self._sign(call, gas, self._next, fee, tip)
                intent = Intent(
                    key=key, kind=kind, to=call.to, data=call.data, value=call.value, gas=gas,
                    nonce=self._next, state=FLYING, attempts=(attempt,),
                )  # fmt: skip
                await self._outbox.run(self._outbox.add, intent)
                self._next += 1
                self._take_off(intent)
            self._crash("stored")
            await self._broadcast(intent)
            self._crash("broadcast")

    def _take_off(self, intent: Intent) -> None:
        if not self._flights.flying:
            self._progress_at, self._rounds = trio.current_time(), 0
        self._flights.take_off(intent)

    async def _price(self, call: ContractCall) -> tuple[int, int, int]:
        estimation, price, balance = await self._pool.batch(
            [self._estimation(call), ("eth_gasPrice", []), self._balance()]
        )
        gas = max(self._gas(estimation), call.least_gas) * 115 // 100
        with sensible():
            unit, held = wei(price), wei(balance)
        fee = 2 * unit
        held = max(0, held - call.value)
        if held < gas * fee:
            fee = held // gas
        if fee < unit + unit // 10:
            raise refusal("GasMoney", {"available": held, "needed": gas * 2 * unit})
        return gas, fee, min(GWEI, fee)

    def _estimation(self, call: ContractCall) -> Request:
        return "eth_estimateGas", [_message(self._signer.account, call)]

    def _balance(self) -> Request:
        return "eth_getBalance", [self._signer.account, "latest"]

    @staticmethod
    def _gas(answer: object) -> int:
        if isinstance(answer, RpcError):
            raise refused(answer)
        with sensible():
            return quantity(answer)

    async def _first_nonce(self) -> int:
        answer = await self._pool.call("eth_getTransactionCount", self._signer.account, "latest")
        with sensible():
            chain = quantity(answer)
        return max(chain, await self._outbox.run(self._outbox.next_nonce))

    def _sign(
        self, what: ContractCall | Intent, gas: int, nonce: int, fee: int, tip: int
    ) -> Attempt:
        envelope = Envelope(
            chain_id=self._chain_id, nonce=nonce, tip=tip, fee=fee, gas=gas, to=what.to,
            data=what.data, value=what.value,
        )  # fmt: skip
        signed = sign(envelope, self._signer)
        return Attempt(signed.hash, nonce, signed.raw, fee, tip)

    async def _broadcast(self, intent: Intent) -> bool:
        """Send the newest bytes of an intent; whether they were called too cheap."""
        answers = await self._pool.broadcast(intent.current[-1].raw)
        said = [one.message.lower() for one in answers if isinstance(one, RpcError)]
        if None in answers or any(known in one for one in said for known in _KNOWN):
            self._flights.solved(intent.key)
            return False
        if any("insufficient funds" in one for one in said):
            # It stays in flight and goes out when there is money; the caller hears of it now.
            self._flights.trouble(intent.key, refusal("GasMoney"))
        return any(cheap in one for one in said for cheap in _CHEAP)

    def _sorted(self) -> list[Intent]:
        return sorted(self._flights.flying.values(), key=lambda intent: intent.nonce)

    async def _look(self) -> None:
        flying = self._sorted()
        if not flying:
            return
        hashes = [(intent, one.hash) for intent in flying for one in intent.current]
        requests: list[Request] = [("eth_getTransactionReceipt", [hash_]) for _, hash_ in hashes]
        count, *answers = await self._pool.batch(
            [("eth_getTransactionCount", [self._signer.account, "latest"]), *requests]
        )
        mined = {
            intent.key: (intent, answer)
            for (intent, _), answer in zip(hashes, answers, strict=True)
            if isinstance(answer, dict)
        }
        if mined:
            await self._settle(list(mined.values()))
        self._note_progress(_count(count), bool(mined))
        await self._renew_dead([one for one in flying if one.key not in mined], _count(count))
        if (
            trio.current_time() - self._progress_at > self._settings.stuck_s
            and self._flights.flying
        ):
            await self._unstick()

    def _note_progress(self, count: int, mined: bool) -> None:
        if count != self._count or mined:
            self._count, self._rounds = count, 0
            self._progress_at = trio.current_time()

    async def _settle(self, mined: list[tuple[Intent, dict[str, Any]]]) -> None:
        """Write the outcome of transactions whose receipts the endpoints agree on."""
        requests: list[Request] = []
        for _, receipt in mined:
            requests.append(("eth_getTransactionReceipt", [receipt.get("transactionHash")]))
            requests.append(("eth_getBlockByNumber", [receipt.get("blockNumber"), False]))
        answers = await self._pool.agreed(requests, _facts)
        for (intent, _), receipt, block in zip(mined, answers[::2], answers[1::2], strict=True):
            if not isinstance(receipt, dict) or not isinstance(block, dict):
                continue  # replaced or not known everywhere yet: look again
            if receipt.get("blockHash") != block.get("hash"):
                continue
            outcome = await self._outcome(intent, receipt, quantity(block.get("timestamp")))
            self._crash("mined")
            await self._outbox.run(self._outbox.finish, outcome)
            self._crash("finished")
            self._missing_since.pop(intent.key, None)
            self._flights.arrived(intent.key)

    async def _outcome(self, intent: Intent, receipt: dict[str, Any], time: int) -> Intent:
        good = quantity(receipt.get("status")) == 1
        done = msgspec.structs.replace(
            intent,
            state=FINAL if good else REVERTED,
            hash=str(receipt.get("transactionHash")).lower(),
            block=quantity(receipt.get("blockNumber")),
            time=time,
            gas_used=quantity(receipt.get("gasUsed")),
            gas_price=wei(receipt.get("effectiveGasPrice", "0x0")),
        )
        if good:
            return done
        error = await self._why(done)
        return msgspec.structs.replace(done, refusal=(error.name, error.arguments))

    async def _why(self, intent: Intent) -> LedgerRejected:
        """The contract's reason, asked for by trying the same call again."""
        message = _message(self._signer.account, intent)
        message["gas"] = hex(intent.gas)
        for block in (hex(intent.block - 1), "latest"):
            # Old state may be gone; a reason that nobody knows must not hold up the outcome.
            with suppress(LedgerUnreachable):
                (answer,) = await self._pool.batch([("eth_call", [message, block])])
                if isinstance(answer, RpcError) and answer.is_revert:
                    return refused(answer)
        if intent.gas_used >= intent.gas:
            return refusal("OutOfGas", {"limit": intent.gas})
        return refusal("Reverted")

    async def _unstick(self) -> None:
        """Send everything again; on the second round, or if too cheap, pay more for the lowest."""
        self._progress_at = trio.current_time()
        self._rounds += 1
        cheap = await self._resend(self._sorted())
        lowest = self._sorted()[0]
        if cheap or self._rounds > 1:
            await self._raise_fee(lowest)

    async def _resend(self, flying: list[Intent]) -> bool:
        """The same bytes again, in order; whether the first were called too cheap."""
        called_cheap = [await self._broadcast(intent) for intent in flying]
        return called_cheap[0]

    async def _raise_fee(self, intent: Intent) -> None:
        last = intent.current[-1]
        price = wei(await self._pool.call("eth_gasPrice"))
        # At least an eighth more of both, or nodes refuse the replacement.
        fee = min(max(last.fee + last.fee // 8 + 1, 2 * price), self._settings.most_fee)
        tip = min(last.tip + last.tip // 8 + 1, fee)
        if fee < last.fee + last.fee // 8:
            return
        attempt = self._sign(intent, intent.gas, intent.nonce, fee, tip)
        await self._flights.replace(intent, attempt)
        self._crash("raised")
        await self._broadcast(self._flights.flying[intent.key])

    async def _renew_dead(self, missing: list[Intent], count: int) -> None:
        """Give a new nonce to intents whose old one somebody else has spent, provably."""
        now = trio.current_time()
        for intent in missing:
            if intent.nonce >= count:
                self._missing_since.pop(intent.key, None)
            elif now - self._missing_since.setdefault(intent.key, now) > self._settings.dead_s:
                if await self._is_dead(intent):
                    await self._renew(intent)
                self._missing_since.pop(intent.key, None)

    async def _is_dead(self, intent: Intent) -> bool:
        """Whether every endpoint says that the nonce is spent and none knows our bytes."""
        requests: list[Request] = [("eth_getTransactionCount", [self._signer.account, "latest"])]
        requests += [("eth_getTransactionReceipt", [one.hash]) for one in intent.attempts]
        for count, *receipts in await self._pool.each(requests):
            if _count(count) <= intent.nonce or any(one is not None for one in receipts):
                return False
        return True

    async def _renew(self, intent: Intent) -> None:
        async with self._nonces:
            chain = await self._first_nonce()
            nonce = max(chain, self._next if self._next is not None else 0)
            last = intent.current[-1]
            attempt = self._sign(intent, intent.gas, nonce, last.fee, last.tip)
            await self._flights.replace(intent, attempt)
            self._next = nonce + 1
            self._crash("renewed")
            await self._broadcast(self._flights.flying[intent.key])


@asynccontextmanager
async def open_sender(
    pool: Pool,
    signer: Signer,
    chain_id: int,
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
            sender = Sender(pool, signer, chain_id, outbox, crash=crash, settings=settings)
            await nursery.start(sender.run)
            yield sender
    finally:
        with trio.CancelScope(shield=True):
            await outbox.run(outbox.close)


def refused(error: RpcError) -> LedgerRejected:
    """What a node's error about a transaction means."""
    if error.data:
        return read_error(error.data)
    if "insufficient funds" in error.message.lower():
        return refusal("GasMoney")
    if error.is_revert:
        return refusal("Reverted", {"message": error.message[:200]})
    return refusal("Refused", {"message": error.message[:200]})


def _message(sender: str, what: ContractCall | Intent) -> dict[str, object]:
    message: dict[str, object] = {"from": sender, "data": hexed(what.data)}
    if what.to is not None:
        message["to"] = what.to
    if what.value:
        message["value"] = hex(what.value)
    return message


def _facts(answers: list[Any]) -> object:
    """What two nodes must tell alike about receipts and blocks, whatever else they add."""
    names = ("transactionHash", "blockHash", "status", "gasUsed", "hash", "timestamp")
    return [[one.get(name) for name in names] if isinstance(one, dict) else None for one in answers]


def _count(answer: object) -> int:
    if isinstance(answer, RpcError):
        raise MalformedMessage(f"no count of transactions: {answer.message[:80]}")
    return quantity(answer)
