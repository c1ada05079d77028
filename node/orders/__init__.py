"""Signed orders on the node's side: taken, computed, shown for money, settled many at once."""
