"""How long the lane waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited for what, in seconds."""

    dial: float = 10.0
    answer: float = 30.0
    """For the node to say where it stands."""
    give_up: float = 15.0
    """Without a link, before its tasks go to other nodes."""
    silent: float = 60.0
    """With tasks asked for and no result, before the node is given up."""
    last: float = 5.0
    """To pay what was received when a lane is left."""
    idle: float = 0.02
    """Without a result, before what is due is paid."""
    longest_due: float = 0.1
    gap: float = 0.001
    """Between two writes of a steady stream."""
    first_pause: float = 0.05
    longest_pause: float = 5.0
    disk: float = 10.0
    """For a disk that takes nothing."""
