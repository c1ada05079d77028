"""The torch code: one file a workload, imported by a worker's template and nowhere else."""
