"""The shipped Sei artifacts, executed: their gas, and that Python and Solidity agree."""
