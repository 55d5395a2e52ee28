"""Where the real Spack is, for tests that need it."""

from pathlib import Path

import pytest
from real_spack import CACHE, HERE, PYTHON, WHY_NOT, Spack


@pytest.fixture(scope="session")
def spack(tmp_path_factory: pytest.TempPathFactory) -> Spack:
    """The Spack that the environment variable names; skips where it names none."""
    if not HERE:
        pytest.skip(WHY_NOT)
    cache = Path(CACHE) if CACHE else tmp_path_factory.mktemp("spack")
    return Spack(Path(HERE), PYTHON, cache)
