"""Windows and budgets: how much either side of a link may have in flight, and how fast.

Pure arithmetic; the rules are those of `p2p.framing`.
"""

from __future__ import annotations

from dataclasses import dataclass

from deai.errors import MalformedMessage


@dataclass(slots=True)
class SendWindow:
    """The sender's side: cost sent and not handed back."""

    size: int
    outstanding: int = 0

    @property
    def is_open(self) -> bool:
        """Whether one more frame may be sent."""
        return self.outstanding < self.size

    def spend(self, cost: int) -> None:
        """Account for a frame that is about to be sent."""
        self.outstanding += cost

    def hand_back(self, cost: int) -> None:
        """Account for credit; raise `MalformedMessage` for more than is outstanding."""
        if cost > self.outstanding:
            raise MalformedMessage(f"credit of {cost} where {self.outstanding} is outstanding")
        self.outstanding -= cost


@dataclass(slots=True)
class ReceiveWindow:
    """The receiver's side: cost received and not handed back, and what of it was consumed."""

    size: int
    hand_back_at: int
    outstanding: int = 0
    consumed: int = 0

    def arrive(self, cost: int) -> None:
        """Account for a frame; raise `MalformedMessage` if the sender overran the window."""
        if self.outstanding >= self.size:
            raise MalformedMessage(f"more than {self.size} in flight")
        self.outstanding += cost

    def consume(self, cost: int) -> int:
        """Account for a consumed frame; the credit to send now, 0 for none yet."""
        self.consumed += cost
        if self.consumed < self.hand_back_at:
            return 0
        credit, self.consumed = self.consumed, 0
        self.outstanding -= credit
        return credit


@dataclass(slots=True)
class TokenBucket:
    """At most `burst` at once and `rate` per second; times are seconds of the caller's clock."""

    rate: float
    burst: float
    tokens: float
    at: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> TokenBucket:
        """A bucket that starts with its whole burst."""
        return cls(rate, burst, burst, now)

    def take(self, count: int, now: float) -> float:
        """Take `count`; the seconds after which they would have been there, 0 for now."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate) - count
        self.at = now
        return max(0.0, -self.tokens / self.rate)
