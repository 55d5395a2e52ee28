"""Files, locks, processes, signals and the machine; knows nothing of Slurm."""
