"""Ray's tasks and actor calls per second, one call at a time as its users write them.

Run by an interpreter that has Ray (`benchmarks/ray.lock`); imports nothing of this project.
Prints one JSON line: `tasks_per_s`, `actor_calls_per_s`, and with 64 calls packed by hand into
each, `packed_tasks_per_s`, `packed_actor_calls_per_s`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

IN_FLIGHT: Final = 256
PACKED: Final = 64
PAYLOAD: Final = os.urandom(100)


def rate(submit: Callable[[], Any], wait: Callable[..., Any], seconds: float, size: int) -> float:
    """Calls per second with as many in flight as the lane has; `size` calls in each."""
    in_flight, done = [submit() for _ in range(max(1, IN_FLIGHT // size))], 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        ended, in_flight = wait(in_flight)
        done += size * len(ended)
        in_flight += [submit() for _ in ended]
    return done / (time.perf_counter() - began)


class Held:
    """What becomes an actor."""

    def noop(self, data: bytes) -> bytes:
        """Nothing."""
        return data

    def many(self, data: list[bytes]) -> list[bytes]:
        """Nothing, packed."""
        return data


def noop(data: bytes) -> bytes:
    """Nothing, without an actor."""
    return data


def many(data: list[bytes]) -> list[bytes]:
    """Nothing, packed."""
    return data


def measure(seconds: float) -> dict[str, Any]:
    """Each way, for so many seconds."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = importlib.import_module("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    task, packed_task = ray.remote(noop), ray.remote(many)
    actor = ray.remote(Held).remote()
    packed = [PAYLOAD] * PACKED

    def wait(refs: list[Any]) -> Any:  # noqa: ANN401 - Ray's own
        ended, rest = ray.wait(refs, num_returns=max(1, len(refs) // 4))
        ray.get(ended)
        return ended, rest

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "tasks_per_s": (lambda: task.remote(PAYLOAD), 1),
        "actor_calls_per_s": (lambda: actor.noop.remote(PAYLOAD), 1),
        "packed_tasks_per_s": (lambda: packed_task.remote(packed), PACKED),
        "packed_actor_calls_per_s": (lambda: actor.many.remote(packed), PACKED),
    }
    found: dict[str, float] = {}
    for name, (submit, size) in ways.items():
        rate(submit, wait, min(2.0, seconds), size)  # workers start
        found[name] = rate(submit, wait, seconds, size)
    ray.shutdown()
    return {"version": ray.__version__, **found}


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]))))
