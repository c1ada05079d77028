"""Tests of the embedded NEAR chain."""
