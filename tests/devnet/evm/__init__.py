"""Tests of the embedded EVM chain."""
