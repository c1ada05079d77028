"""What the chain answers when it says no: JSON-RPC error codes and texts, those of geth."""

from typing import Final

from deai.errors import Declined

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
RESPONSE_TOO_LARGE: Final = -32003
REVERTED: Final = 3


class RpcError(Declined):
    """An answer with ``error`` instead of ``result``; ``number`` is the JSON-RPC error code."""

    code = "rpc_error"

    def __init__(self, number: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.number: Final = number
        self.message: Final = message
        self.data: Final = data

    def document(self) -> dict[str, object]:
        """Return the ``error`` member of the answer."""
        body: dict[str, object] = {"code": self.number, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def invalid_params(message: str) -> RpcError:
    """Return the error for a parameter of the wrong type, form or size."""
    return RpcError(INVALID_PARAMS, message)


def refused(message: str) -> RpcError:
    """Return the error for something understood and not done."""
    return RpcError(SERVER_ERROR, message)
