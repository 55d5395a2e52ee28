"""Where things lie in this repository (host)."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
PROGRAMS = Path(__file__).parent
"""Programs and scripts that tests start."""
