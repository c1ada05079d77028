"""Every deliberate error.

    DeaiError
    ├── ConfigError               found at start; names the setting and the file
    │   ├── NotSetUp                something has not been created or installed yet
    │   └── UsageError              a value that the caller gave cannot be meant
    ├── ProtocolError             the conversation went wrong
    │   ├── MalformedMessage        their bytes are no message of ours
    │   ├── BadSignature
    │   └── IllegalTransition       an event the state cannot take
    ├── Unreachable               nobody answered; unknown whether they heard us
    │   ├── PeerUnreachable
    │   ├── LedgerUnreachable
    │   └── CoordinatorUnreachable
    ├── Declined                  they heard us and said no; do not repeat
    │   ├── TaskDeclined
    │   └── LedgerRejected          carries the contract's own error, decoded
    ├── LimitExceeded             a bound held: size, rate, queue, price
    └── ExecutionFailed           no result was produced
        ├── WorkloadFault           the task itself is at fault; every honest node fails alike
        └── NodeFault               this node is at fault

The axis is what the caller should do: fix, ban the peer, retry, give up, wait, report.
Every class has a stable `code` (snake case; part of the command line's JSON) and every
instance may carry a `hint`: what to do next, in one sentence. Where it carries none, the
command line prints the `advice` of its class.
"""

from __future__ import annotations

from typing import ClassVar, Final


class DeaiError(Exception):
    """Base of every deliberate error; `code` is stable, `hint` says what to do next."""

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1
    advice: ClassVar[str] = "the command with --help tells what it takes"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.hint: Final = hint
        self.reason_code: Final = code or type(self).code


class ConfigError(DeaiError):
    """A setting is missing or wrong; names the setting and the file."""

    code = "config_error"
    exit_status = 3
    advice = "correct what the message names; the command with --help tells what it takes"


class NotSetUp(ConfigError):
    """Something that a command needs has not been created or installed yet."""

    code = "not_set_up"


class UsageError(ConfigError):
    """An option, an argument or a call's value that cannot be meant; names it."""

    code = "usage"
    exit_status = 2
    advice = "the command with --help tells what it takes"


class ProtocolError(DeaiError):
    """The conversation went wrong."""

    code = "protocol_error"
    advice = "correct the value or the file that the message names"


class MalformedMessage(ProtocolError):
    """Bytes that are no message of ours, or a value outside its range."""

    code = "malformed_message"


class BadSignature(ProtocolError):
    """A signature that does not belong to the key it claims."""

    code = "bad_signature"


class IllegalTransition(ProtocolError):
    """An event that the state cannot take."""

    code = "illegal_transition"


class Unreachable(DeaiError):
    """Nobody answered; it is unknown whether they heard us."""

    code = "unreachable"
    exit_status = 75
    advice = "try again shortly; `deai network health` tells what answers"


class PeerUnreachable(Unreachable):
    """A peer did not answer, or its stream ended."""

    code = "peer_unreachable"


class LedgerUnreachable(Unreachable):
    """No endpoint of the chain answered usefully."""

    code = "ledger_unreachable"


class CoordinatorUnreachable(Unreachable):
    """The coordinator did not answer."""

    code = "coordinator_unreachable"


class Declined(DeaiError):
    """They heard us and said no; do not repeat."""

    code = "declined"


class TaskDeclined(Declined):
    """A node does not take the task; `code` is the typed reason."""

    code = "task_declined"


class LedgerRejected(Declined):
    """The contract refused; `name` and `arguments` are its own error, decoded."""

    code = "ledger_rejected"
    said: ClassVar[str] = "the contract refused"

    def __init__(
        self, name: str, arguments: dict[str, object] | None = None, *, hint: str = ""
    ) -> None:
        shown = ", ".join(f"{key}={value}" for key, value in (arguments or {}).items())
        super().__init__(f"{self.said}: {name}({shown})", hint=hint)
        self.name: Final = name
        self.arguments: Final = dict(arguments or {})


class InsufficientFunds(LedgerRejected):
    """The account lacks tokens, a vault balance, or money for gas."""

    code = "insufficient_funds"
    exit_status = 5
    said = "not enough money"


class LimitExceeded(DeaiError):
    """A bound held: size, rate, queue, price."""

    code = "limit_exceeded"
    advice = "ask for less at a time, or again later"


class ExecutionFailed(DeaiError):
    """No result was produced."""

    code = "execution_failed"


class WorkloadFault(ExecutionFailed):
    """The task itself is at fault: every honest node fails alike, with the same `fault`.

    `fault` is a code of the closed list `deai.tasks.FaultCode`.
    """

    code = "workload_fault"
    advice = "correct the input or parameter; `deai workload show ID` tells what is taken"

    def __init__(self, message: str, *, fault: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.fault: Final = fault


class NodeFault(ExecutionFailed):
    """This node could not do it; another may."""

    code = "node_fault"
