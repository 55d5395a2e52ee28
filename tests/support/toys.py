"""Packages of our own in a project of the real Spack, all of it in a directory of the test."""

import hashlib
import shutil
import tarfile
from pathlib import Path

from real_spack import Spack

from slurm_factory.recipes.spack.install import InstallProgress
from slurm_factory.recipes.spack.lock import Lock, read_lock

RECIPE = """\
from spack_repo.builtin.build_systems.generic import Package
from spack.package import *

class {name}(Package):
    url = "{url}"
    version("1.0", sha256="{digest}")
{depends}
    def install(self, spec, prefix):
        mkdirp(prefix.lib)
        install("data", prefix.lib)
        {extra}
"""
ENVIRONMENT = """\
spack:
  specs: [toymain]
  view: false
  concretizer: {{unify: true, reuse: false}}
  repos::
    toy: {here}/spack_repo/toy
    builtin: {builtin}
  mirrors::
    local:
      {{url: "file://{buildcache}", source: false, binary: true, signed: false, autopush: true}}
  config:
    install_tree: {{root: {here}/store, projections: {{all: "{{name}}-{{hash:7}}"}}}}
    build_stage: {here}/stage
    source_cache: {here}/sources
    misc_cache: {misc}
    ccache: false
    locks: false
    installer: new
"""


class Toys:
    """Two packages of our own, one needing the other, in a project with a build cache.

    Args:
        spack: The real one.
        here: Directory of the test.
        buildcache: Where the build cache is; `cache` in the same directory by default.
    """

    def __init__(self, spack: Spack, here: Path, buildcache: Path | None = None) -> None:
        self.spack, self.here = spack, here
        self.packages = here / "spack_repo/toy/packages"
        self.packages.mkdir(parents=True)
        (here / "spack_repo/toy/repo.yaml").write_text("repo: {namespace: toy, api: v2.2}\n")
        self.project = here / "project"
        self.project.mkdir()
        text = ENVIRONMENT.format(
            here=here,
            builtin=spack.builtin,
            misc=spack.cache / "misc",
            buildcache=buildcache or here / "cache",
        )
        (self.project / "spack.yaml").write_text(text)

    def recipe(
        self,
        name: str,
        *,
        needs: str = "",
        extra: str = "pass",
        data: bytes = b"",
        damaged: bool = False,
    ) -> None:
        source = self.here / f"{name}-1.0"
        source.mkdir()
        (source / "data").write_bytes(data or name.encode())
        archive = self.here / f"{name}-1.0.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, source.name)
        digest = hashlib.sha256(b"" if damaged else archive.read_bytes()).hexdigest()
        depends = f'    depends_on("{needs}")\n' if needs else ""
        text = RECIPE.format(
            name=name.title(),
            url=f"file://{archive}",
            digest=digest,
            depends=depends,
            extra=extra,
        )
        folder = self.packages / name
        folder.mkdir()
        (folder / "package.py").write_text(text)

    def run(self, *arguments: str) -> list[str]:
        return self.spack.run(self.project, *arguments)

    @property
    def locked(self) -> str:
        """The lock of the last decision."""
        return (self.project / "spack.lock").read_text()

    def lock(self) -> Lock:
        said = self.run("concretize", "--force")
        assert (self.project / "spack.lock").exists(), said
        return read_lock(self.locked)

    def install(self, lock: Lock) -> tuple[InstallProgress, list[str]]:
        said = self.run("install", "--only-concrete", "-j", "2")
        progress = InstallProgress(lock.packages)
        for line in said:
            progress.take(line)
        return progress, said

    def forget(self) -> None:
        """As in a new instance."""
        shutil.rmtree(self.here / "store")
        shutil.rmtree(self.here / "stage", ignore_errors=True)
