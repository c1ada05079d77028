"""Signed orders on the client's side: set money aside, sign, fetch results and prove them."""
