"""Recipes that build Slurm and its libraries in an instance."""
