"""Locks a process in, without root: resource limits, Landlock, seccomp."""
