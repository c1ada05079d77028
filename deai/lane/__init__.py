"""The fast lane: tasks that are paid by vouchers of a channel, thousands of them per second.

`messages` is what the two sides say, `receipts` what a window of tasks proves, `payee` and
`payer` the two ends' books as state machines without I/O, `writer` the thread that makes what
they write durable. The node's side lives in `node.lane`, the client's in `deai.client.lane`.
"""
