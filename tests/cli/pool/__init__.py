"""`deai pool`."""
