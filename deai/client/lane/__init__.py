"""The client's side of the fast lane: many small paid tasks over channels that are open.

`book` makes promises durable, `talk` is one node's conversation without I/O, `session` carries it
over a link, `hub` keeps the sessions of a client, `lane` is what a caller sees.
"""

from deai.client.lane.lane import Lane, LaneResult

__all__ = ["Lane", "LaneResult"]
