"""The node's side of the fast lane: tasks paid by vouchers of channels."""
