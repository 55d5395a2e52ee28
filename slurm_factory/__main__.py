"""`python -m slurm_factory`."""

from slurm_factory.main import run

if __name__ == "__main__":
    run()
