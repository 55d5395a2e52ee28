"""slurm-factory: one command turns a Slurm release into a relocatable package."""

from importlib.metadata import version

__version__ = version("slurm-factory")
