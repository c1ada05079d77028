"""Real inputs for the demo: prose that ships with Python, and a portfolio of five assets."""

from __future__ import annotations

import json
import re
from typing import Any, Final

PORTFOLIO: Final[dict[str, Any]] = {
    "positions": [
        {"asset": "equity-world", "value": 400_000},
        {"asset": "equity-tech", "value": 150_000},
        {"asset": "bonds-10y", "value": 300_000},
        {"asset": "gold", "value": 100_000},
        {"asset": "oil", "value": -50_000},
    ],
    "assets": [
        {"name": "equity-world", "drift": 0.065, "volatility": 0.16},
        {"name": "equity-tech", "drift": 0.09, "volatility": 0.27},
        {"name": "bonds-10y", "drift": 0.03, "volatility": 0.07},
        {"name": "gold", "drift": 0.035, "volatility": 0.15},
        {"name": "oil", "drift": 0.02, "volatility": 0.38},
    ],
    "correlation": [
        [1.0, 0.82, -0.15, 0.05, 0.35],
        [0.82, 1.0, -0.1, 0.02, 0.25],
        [-0.15, -0.1, 1.0, 0.2, -0.1],
        [0.05, 0.02, 0.2, 1.0, 0.15],
        [0.35, 0.25, -0.1, 0.15, 1.0],
    ],
    "scenarios": [
        {
            "name": "2008",
            "shocks": {"equity-world": -0.4, "equity-tech": -0.42, "bonds-10y": 0.08, "oil": -0.5},
        },
        {"name": "rates up", "shocks": {"bonds-10y": -0.12, "equity-tech": -0.15}},
    ],
}


def portfolio(hedged: bool = False) -> bytes:
    """The portfolio as JSON; `hedged` halves the equities."""
    document = json.loads(json.dumps(PORTFOLIO))
    if hedged:
        for position in document["positions"][:2]:
            position["value"] /= 2
    return json.dumps(document).encode()


def sentences(count: int, skip: int = 0) -> bytes:
    """English sentences from the language reference that comes with Python, one a line."""
    from pydoc_data.topics import topics

    found: list[str] = []
    for _, text in sorted(topics.items()):
        found += [
            sentence.strip()
            for sentence in re.split(r"(?<=[.:])\s+", re.sub(r"\s+", " ", text))
            if 30 <= len(sentence) <= 300 and sentence.isprintable()
        ]
        if len(found) >= count + skip:
            break
    return ("\n".join(found[skip : skip + count]) + "\n").encode()
