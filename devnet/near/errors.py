"""What the chain answers when it says no, in nearcore's words and shapes."""

from typing import Final

from deai.errors import Declined

HANDLER_ERROR: Final = "HANDLER_ERROR"
REQUEST_VALIDATION_ERROR: Final = "REQUEST_VALIDATION_ERROR"
INTERNAL_ERROR: Final = "INTERNAL_ERROR"

Json = dict[str, object]


class RpcError(Declined):
    """An answer with ``error`` instead of ``result``.

    ``cause`` is the name that programs look at, ``info`` what belongs to it, ``data`` the older
    form of the same; ``status`` is the answer's HTTP status.
    """

    code = "rpc_error"

    def __init__(
        self,
        cause: str,
        info: Json | None = None,
        data: object = None,
        *,
        kind: str = HANDLER_ERROR,
        number: int = -32_000,
        message: str = "Server error",
        status: int = 200,
    ) -> None:
        super().__init__(cause)
        self.cause: Final = cause
        self.info: Final = info or {}
        self.data: Final = cause if data is None else data
        self.kind: Final = kind
        self.number: Final = number
        self.message: Final = message
        self.status: Final = status

    def document(self) -> Json:
        """Return the ``error`` member of the answer."""
        return {
            "name": self.kind,
            "cause": {"name": self.cause, "info": self.info},
            "code": self.number,
            "message": self.message,
            "data": self.data,
        }


class InvalidTransaction(Declined):
    """A transaction that no block may hold; ``reason`` is nearcore's ``InvalidTxError``."""

    code = "invalid_transaction"

    def __init__(self, reason: str | Json) -> None:
        super().__init__(_named(reason))
        self.reason: Final = reason

    def answer(self) -> RpcError:
        """Return what a client is told."""
        body: Json = {"TxExecutionError": {"InvalidTxError": self.reason}}
        return RpcError("INVALID_TRANSACTION", body, body)


class ActionFailed(Declined):
    """An action of a receipt failed; ``kind`` is nearcore's ``ActionErrorKind``."""

    code = "action_failed"

    def __init__(self, kind: str | Json) -> None:
        super().__init__(_named(kind))
        self.kind: Final = kind


def _named(error: object) -> str:
    """Write the names in a nested error: ``InvalidAccessKeyError: RequiresFullAccess``."""
    names: list[str] = []
    while isinstance(error, dict) and len(error) == 1:
        ((name, error),) = error.items()
        names.append(str(name))
    if isinstance(error, str):
        names.append(error)
    return ": ".join(names)


def parse_error(message: str) -> RpcError:
    """Return the error for a request or parameter of the wrong type, form or size."""
    return RpcError(
        "PARSE_ERROR",
        {"error_message": message},
        message,
        kind=REQUEST_VALIDATION_ERROR,
        number=-32_700,
        message="Parse error",
        status=400,
    )


def internal_error(message: str, status: int = 500) -> RpcError:
    """Return the error for what this chain cannot do."""
    return RpcError(
        INTERNAL_ERROR, {"error_message": message}, message, kind=INTERNAL_ERROR, status=status
    )
