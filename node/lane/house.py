"""What the session of a link asks of the node around it."""

from __future__ import annotations

from typing import Protocol

from deai.lane.receipts import Terms
from deai.ports import Workbench
from deai.signing import Signer
from node.lane.account import Account
from node.lane.book import LaneBook
from node.lane.terms import Refusal


class House(Protocol):
    """What a session asks of the node around it."""

    @property
    def book(self) -> LaneBook:
        """The accounts."""
        ...

    @property
    def signer(self) -> Signer:
        """Signs windows."""
        ...

    @property
    def workbench(self) -> Workbench:
        """Where the work is done."""
        ...

    def judge(self, terms: Terms, account: Account) -> Refusal | None:
        """Whether tasks of these terms are taken."""
        ...

    def closed_because(self) -> tuple[str, str] | None:
        """Why the node starts nothing for anybody now: a code, and words for people."""
        ...

    def now(self) -> int:
        """Unix seconds."""
        ...

    def look_again(self, account: Account) -> None:
        """Read the channel from the chain soon."""
        ...

    def counted(self, name: str, by: int = 1) -> None:
        """Count something."""
        ...

    def said_no(self, code: str, message: str, hint: str = "") -> None:
        """Remember why work was not done, for `deai node why`."""
        ...
