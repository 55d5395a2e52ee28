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


@pytest.fixture
def misc(spack: Spack, tmp_path: Path) -> Path:
    """A `misc_cache` with the index of the recipes, where only this test reads build caches."""
    misc = tmp_path / "misc"
    misc.mkdir()
    shared = spack.cache / "misc"
    shared.mkdir(exist_ok=True)
    for index in {*shared.iterdir()} - {shared / "indices"}:
        (misc / index.name).symlink_to(index)
    return misc
