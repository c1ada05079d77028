"""Tests of the NEAR contracts: the shipped wasm on the embedded chain."""
