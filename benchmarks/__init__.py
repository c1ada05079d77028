"""Every figure the project publishes, one command each: `python -m benchmarks.NAME --json`."""
