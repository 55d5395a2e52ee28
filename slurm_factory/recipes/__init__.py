"""How Slurm and the libraries it needs are built in an instance."""
