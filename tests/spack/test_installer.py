"""The real Spack's new installer does and prints what the recipe relies on (Spack 1.1.0)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from real_spack import Spack
from toys import Toys

from slurm_factory.recipes.spack.cache import index_is_current
from slurm_factory.recipes.spack.failure import Cause, explain, failed_packages

pytestmark = pytest.mark.spack


@pytest.fixture
def toys(spack: Spack, tmp_path: Path) -> Toys:
    return Toys(spack, tmp_path)


def test_packages_are_pushed_as_they_finish_and_come_from_the_cache_the_next_time(
    toys: Toys,
) -> None:
    toys.recipe("toydep")
    toys.recipe("toymain", needs="toydep")
    lock = toys.lock()
    first, said = toys.install(lock)
    snapshot = first.snapshot()
    assert (snapshot.done, snapshot.total, snapshot.cached) == (2, 2, 0), said
    cache = toys.here / "cache"
    assert not index_is_current(cache)
    toys.run("buildcache", "update-index", f"file://{cache}")
    assert index_is_current(cache)
    toys.forget()
    second, said = toys.install(lock)
    snapshot = second.snapshot()
    assert (snapshot.done, snapshot.cached) == (2, 2), said
    toys.forget()
    for blob in cache.glob("blobs/sha256/*/*"):
        if blob.read_bytes().startswith(b"\x1f\x8b"):
            blob.write_bytes(b"\x1f\x8b damaged")
    third, said = toys.install(lock)
    assert third.snapshot().done == 2, said
    assert all(state.damaged for state in third.states.values()), said
    database = json.loads((toys.here / "store/.spack-db/index.json").read_text())
    assert {*database["database"]["installs"]} >= {*lock.nodes}


def test_spack_uses_its_copy_of_an_index_that_is_gone_until_that_is_removed(toys: Toys) -> None:
    toys.recipe("toymain")
    lock = toys.lock()
    toys.install(lock)
    toys.run("buildcache", "update-index", f"file://{toys.here}/cache")
    toys.forget()
    toys.install(lock)
    for copy in (True, False):
        shutil.rmtree(toys.here / "cache")
        toys.forget()
        if not copy:
            shutil.rmtree(toys.spack.cache / "misc/indices")
        again, said = toys.install(lock)
        assert again.snapshot().done == 1, said
        assert [state.damaged for state in again.states.values()] == [copy], said


@pytest.mark.parametrize(
    ("prepare", "cause", "phase"),
    [
        (lambda toys: toys.recipe("toymain", extra='which("false")()'), Cause.BUILD, "install"),
        (lambda toys: toys.recipe("toymain", damaged=True), Cause.CHECKSUM, "staging"),
    ],
)
def test_a_failure_is_listed_and_its_log_shows_the_reason(
    toys: Toys, prepare: Callable[[Toys], None], cause: Cause, phase: str
) -> None:
    prepare(toys)
    progress, said = toys.install(toys.lock())
    (failed,) = failed_packages(said)
    state = progress.find(failed.hash)
    assert state is not None
    assert (state.failed, state.phase) == (True, phase)
    # The new installer may lose the end of a log; the old one is asked then.
    log = Path(failed.log)
    reason = explain(log.read_text().splitlines()) if log.exists() else None
    if reason is None:
        old = ("-c", "config:installer:old", "install", "--only-concrete", f"/{failed.hash}")
        reason = explain(toys.run(*old))
    assert reason is not None
    assert reason.cause is cause
