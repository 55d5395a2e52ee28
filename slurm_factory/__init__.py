"""slurm-factory: one command turns a Slurm release into a relocatable package."""

__version__ = "0.1.0"
