"""The watchtower, from the voucher's hand-over to the answer on the chain."""
