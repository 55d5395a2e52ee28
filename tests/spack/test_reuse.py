"""What the shipped environment lets Spack take from a build cache when it decides (Spack 1.1.0)."""

import json
from pathlib import Path

import pytest
import real_spack
import yaml
from plan_samples import spack_plan
from toys import Toys

from slurm_factory.constants import SPACK_NAMESPACE
from slurm_factory.recipes.spack.lock import Lock, Node
from slurm_factory.spack_yaml import generate_yaml_string

pytestmark = pytest.mark.spack

RECIPE = """\
from spack_repo.builtin.build_systems.generic import Package
from spack.package import *

class {name}(Package):
    has_code = False
    {directives}

    def install(self, spec, prefix):
        mkdirp(prefix.{made})
"""
ALONE = 'version("1.0")'
FLAGS = " ".join(spack_plan().compiler.hardening)
FLAGGED = {"toylib": {"require": [f"cflags='{FLAGS}'"]}}
"""As if the compiler of the base had compiled it."""


class Cached:
    """Packages that were built and pushed, one of them of our own namespace."""

    def __init__(self, spack: real_spack.Spack, here: Path, misc: Path) -> None:
        self.toys = Toys(spack, here)
        self.ours = here / "spack_repo" / SPACK_NAMESPACE / "packages"
        self.ours.mkdir(parents=True)
        about = {"repo": {"namespace": SPACK_NAMESPACE, "api": "v2.2"}}
        (self.ours.parent / "repo.yaml").write_text(yaml.safe_dump(about))
        text = (self.toys.project / "spack.yaml").read_text()
        self.environment = text.replace(f"{spack.cache}/misc", str(misc))
        self.decide_by({"unify": True, "reuse": False})

    def recipe(self, name: str, directives: str, made: str = "lib", *, ours: bool = False) -> None:
        folder = (self.ours if ours else self.toys.packages) / name
        folder.mkdir(exist_ok=True)
        text = RECIPE.format(name=name.title(), directives=directives, made=made)
        (folder / "package.py").write_text(text)

    def decide_by(self, concretizer: dict[str, object]) -> None:
        text = self.environment
        for old, new in (
            ("{unify: true, reuse: false}", json.dumps(concretizer)),
            ("  repos::\n", f"  repos::\n    {SPACK_NAMESPACE}: {self.ours.parent}\n"),
            (
                "  config:\n",
                f"  packages: {json.dumps(FLAGGED)}\n  config:\n    binary_index_ttl: 0\n",
            ),
        ):
            assert old in text
            text = text.replace(old, new)
        (self.toys.project / "spack.yaml").write_text(text)

    def push(self) -> dict[str, Node]:
        """Build what was decided, which fills the build cache."""
        lock = self._lock()
        progress, said = self.toys.install(lock)
        assert progress.snapshot().done == len(lock.packages), said
        self.toys.run("buildcache", "update-index", f"file://{self.toys.here}/cache")
        self.toys.forget()
        return by_name(lock)

    def decide(self) -> dict[str, Node]:
        return by_name(self._lock())

    def _lock(self) -> Lock:
        # Spack leaves an earlier one where it fails.
        (self.toys.project / "spack.lock").unlink(missing_ok=True)
        return self.toys.lock()


def by_name(lock: Lock) -> dict[str, Node]:
    return {node.name: node for node in lock.packages}


def shipped() -> dict[str, object]:
    """What the template says about deciding."""
    document = yaml.safe_load(generate_yaml_string(spack_plan()))
    return dict(document["spack"]["concretizer"])


def test_other_peoples_packages_are_reused_from_the_build_cache_and_ours_by_their_hash_only(
    spack: real_spack.Spack, tmp_path: Path, misc: Path
) -> None:
    here = Cached(spack, tmp_path, misc)
    here.recipe("toylib", 'version("1.0")\n    variant("big", default=False)')
    here.recipe("toyours", ALONE, ours=True)
    here.recipe("toysame", ALONE, ours=True)
    here.recipe("toymid", f'{ALONE}\n    depends_on("toyours")')
    here.recipe("toyplain", ALONE)
    needs = (f'depends_on("{name}")' for name in ("toylib", "toyplain", "toymid", "toysame"))
    here.recipe("toymain", "\n    ".join([ALONE, *needs]))
    before = here.push()
    here.recipe("toylib", 'version("2.0")\n    version("1.0")\n    variant("big", default=True)')
    here.recipe("toyplain", 'version("2.0")\n    version("1.0")')
    here.recipe("toyours", ALONE, "bin", ours=True)
    here.decide_by(shipped())
    after = here.decide()
    assert f"file://{tmp_path}/cache__v3" in json.loads(
        (misc / "indices/contents.json").read_text()
    )
    assert after["toylib"] == before["toylib"]
    # Compiled with other flags, for all that is known.
    assert after["toyplain"].version == "2.0"
    assert after["toysame"] == before["toysame"]
    assert (after["toyours"].version, before["toyours"].version) == ("1.0", "1.0")
    assert after["toyours"].hash != before["toyours"].hash
    # Else ours would come in by its old hash, through what was built with it.
    assert after["toymid"].hash != before["toymid"].hash
