"""Recipes: how Slurm and the libraries it needs get built in an instance."""
