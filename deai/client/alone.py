"""An error that is alone in a group of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_error() -> Iterator[None]:
    """Let an error that is alone in its group out without the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        # The base of groups, for `Cancelled` and Ctrl-C come in one, too; nothing is swallowed.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__
