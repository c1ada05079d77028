"""The client of the network: submit a task, follow it, fetch and check its result.

`connect(network, key=…, home=…)` opens a `Client` on trio; `SyncClient` wraps it for code without
an event loop.
"""

from deai.client.access import connect
from deai.client.client import Client
from deai.client.handle import TaskHandle, TaskOutcome
from deai.client.lane import Lane, LaneResult
from deai.client.requests import TaskRequest
from deai.client.sync import SyncClient
from deai.client.updates import TaskUpdate

__all__ = [
    "Client",
    "Lane",
    "LaneResult",
    "SyncClient",
    "TaskHandle",
    "TaskOutcome",
    "TaskRequest",
    "TaskUpdate",
    "connect",
]
