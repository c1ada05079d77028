"""What can be computed, how it runs in a locked worker, how a result is checked."""
