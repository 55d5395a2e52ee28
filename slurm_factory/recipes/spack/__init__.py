"""The recipe `spack`: Slurm and its run-time libraries from source."""
