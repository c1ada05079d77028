"""Writes down what every contract call on the embedded chain was given, and what came of it.

Another implementation of the VM runs the same calls from these records: on the same storage, with
the same input, at the same time.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from devnet.near.chain import Chain
from devnet.near.receipts import Ready
from devnet.near.rules import CALL_BYTE_FEE, CALL_FEE, RECEIPT_FEE
from devnet.near.settlement import Applied, BlockContext
from devnet.near.state import State
from devnet.near.vm.call import CallContext, Storage
from devnet.near.vm.machine import CallOutcome

Record = dict[str, Any]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Recorder:
    """Stands between a chain and its VM, and changes nothing."""

    def __init__(self, chain: Chain) -> None:
        self.codes: dict[str, bytes] = {}
        self._records: list[Record] = []
        self._chain = chain
        self._receipt = ""
        executor = chain._executor
        self._apply, self._run = executor.apply, chain._machine.run
        executor.apply = self._applied  # type: ignore[method-assign]
        chain._machine.run = self._recorded  # type: ignore[method-assign]

    def take(self) -> list[Record]:
        """The calls since the last time."""
        taken, self._records = self._records, []
        return taken

    def _applied(self, ready: Ready, block: BlockContext) -> Applied:
        self._receipt = ready.receipt.id
        return self._apply(ready, block)

    def _recorded(
        self, code_hash: bytes, code: bytes, context: CallContext, world: Storage
    ) -> CallOutcome:
        if context.is_view:
            return self._run(code_hash, code, context, world)
        before = self._entries(context.current)
        usage = world.usage()
        outcome = self._run(code_hash, code, context, world)
        self.codes[code_hash.hex()] = code
        fees = RECEIPT_FEE.execute + CALL_FEE.execute
        fees += CALL_BYTE_FEE.execute * (len(context.method) + len(context.args))
        self._records.append(
            {
                "receipt": self._receipt, "code": code_hash.hex(),
                "account": context.current, "signer": context.signer,
                "signer_key": text(context.signer_key), "predecessor": context.predecessor,
                "refund_to": context.refund_to, "method": context.method,
                "input": text(context.args), "deposit": str(context.deposit),
                "balance": str(context.balance - context.deposit), "usage": usage,
                "gas": context.prepaid_gas, "height": context.height,
                "timestamp": context.timestamp, "seed": text(context.seed),
                "results": [None if one is None else text(one) for one in context.results],
                "outputs": list(context.outputs),
                "before": pairs(before), "after": pairs(self._entries(context.current)),
                "logs": outcome.logs, "failed": outcome.failure is not None,
                "burnt": outcome.burnt, "fees": fees,
            }
        )  # fmt: skip
        return outcome

    def _entries(self, account: str) -> Mapping[bytes, bytes]:
        state: State = self._chain.state
        return dict(state.data(account, b""))


def pairs(entries: Mapping[bytes, bytes]) -> list[tuple[str, str]]:
    return [(text(key), text(value)) for key, value in sorted(entries.items())]
