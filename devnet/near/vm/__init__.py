"""Runs one contract method: wasm in wasmtime, NEAR's host functions in Python.

``call`` holds what a running call has (gas, registers, memory), ``functions`` the table of host
functions, ``meter`` what instructions cost, ``binding`` the way into wasmtime, ``machine`` the
engine; the host functions themselves are in ``about`` (who, when, how much), ``crypto``,
``storage`` and ``promises``.
"""
