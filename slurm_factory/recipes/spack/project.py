"""The directory that Spack works in: its environment, externals and our own package recipes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from slurm_factory.constants import SPACK_NAMESPACE
from slurm_factory.exceptions import SpackError
from slurm_factory.output.text import mask_credentials
from slurm_factory.plan.plan import SPACK_REPOSITORY
from slurm_factory.recipes.patches import PatchFile, patch_files
from slurm_factory.recipes.spack.lock import load_lock, lock_key, read_lock, save_lock
from slurm_factory.recipes.spack.repository import repository_digest, write_repository
from slurm_factory.spack_yaml import EXTERNALS_YAML, SITE_YAML, SPACK_YAML, generate_yaml_string

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.plan.compiler import Compiler
    from slurm_factory.recipes.spack.lock import Lock
    from slurm_factory.recipes.spack.session import Spack

SPACK_LOCK = "spack.lock"
COMPILER = "gcc"
COMPILERS = {"c": "gcc", "cxx": "g++", "fortran": "gfortran"}
"""Those of a sysroot, by their names in Spack (spack.readthedocs.io, "compilers")."""


@dataclass(frozen=True)
class Project:
    """The project of one build.

    Attributes:
        spack: Spack of this build.
        files: Text of each file, without our package recipes.
        patches: All patches of Slurm.
    """

    spack: Spack
    files: dict[str, str]
    patches: tuple[PatchFile, ...] = ()

    @cached_property
    def saved_lock(self) -> Path:
        """File (host) that saves the lock of this very project for later builds."""
        plan, record = self.spack.job.plan, self.spack.instance.record
        repository = repository_digest(plan.compiler, plan.release, self.patches)
        key = lock_key(self.lock_inputs, repository, record)
        return self.spack.job.settings.spack_locks_dir / f"{key}.json"

    @property
    def lock_inputs(self) -> dict[str, str]:
        """The files without what does not influence the lock: where sources come from."""
        plan, choice = self.spack.job.plan, replace(self.spack.choice, source_mirrors=())
        return self.files | {SPACK_YAML: generate_yaml_string(replace(plan, spack=choice))}

    def concretize(self) -> Lock:
        """Concretize this project and return its lock.

        Raises:
            CommandError: Spack cannot concretize it.
            SpackError: Spack wrote no readable lock.
        """
        self.spack.run("concretize", "--force")
        lock = self.spack.instance.take_file(self.spack.paths.project / SPACK_LOCK)
        return self.accept(lock.decode(errors="replace"))

    def accept(self, text: str) -> Lock:
        """Take `text` as this build's lock, save it and log it.

        Raises:
            SpackError: It cannot be read.
        """
        try:
            lock = read_lock(text)
        except ValueError as error:
            raise SpackError(
                "Spack wrote a spack.lock that cannot be used.",
                details=str(error),
                resolution="This slurm-factory supports Spack 1.1: check SLURM_FACTORY_SPACK_REF.",
            ) from error
        save_lock(text, self.saved_lock)
        (self.spack.logs / SPACK_LOCK).write_text(text, "utf-8")
        return lock


def write_project(spack: Spack) -> tuple[Project, str | None]:
    """Write the project into the instance.

    Returns:
        The project, and the text of its lock if the job has one, or an earlier build has saved one:
        Spack then has nothing to decide.

    Raises:
        BuildError: The program's own patches have changed since the build was planned.
        DownloadError: Debian's archive has not the expected patches.
        CommandError: It cannot be copied into the instance.
        OSError: It cannot be written.
    """
    job = spack.job
    project = Project(spack, _files(spack), patch_files(job.plan, job.settings))
    lock = job.lock or load_lock(project.saved_lock)
    folder = spack.input / "spack-project"
    repository = folder / SPACK_REPOSITORY / SPACK_NAMESPACE
    write_repository(repository, job.plan.compiler, job.plan.release, project.patches)
    for name, text in (project.files | ({SPACK_LOCK: lock} if lock else {})).items():
        (folder / name).write_text(text, "utf-8")
    spack.views.mkdir(exist_ok=True)
    spack.logs.mkdir(parents=True, exist_ok=True)
    for name, text in project.files.items():
        (spack.logs / name).write_text(mask_credentials(text), "utf-8")
    spack.run_script(
        "spack-project.sh",
        {
            "SOURCE": spack.inside(folder),
            "PROJECT": str(spack.paths.project),
            "SEEN": spack.inside(spack.views),
            "CACHES": str(spack.paths.caches),
        },
    )
    return project, lock


def _files(spack: Spack) -> dict[str, str]:
    externals = spack.instance.record.get("externals", {"packages": {}})
    files = {
        SPACK_YAML: generate_yaml_string(spack.job.plan),
        EXTERNALS_YAML: yaml.safe_dump(_with_compilers(externals, spack.job.plan.compiler)),
    }
    return files | ({SITE_YAML: spack.choice.config} if spack.choice.config else {})


def _with_compilers(externals: dict[str, Any], compiler: Compiler) -> dict[str, Any]:
    """Externals of a base, with the compilers of the sysroot and their flags.

    Spack adds flags to the description of each package, and so to its hash ("default_flags" in
    Spack's solver).
    """
    flagged = deepcopy(externals)
    flags = dict.fromkeys(("cflags", "cxxflags"), " ".join(compiler.flags))
    for external in flagged.get("packages", {}).get(COMPILER, {}).get("externals", ()):
        attributes = external.setdefault("extra_attributes", {})
        attributes["flags"] = dict(flags)
        if compiler.sysroot:
            attributes["compilers"] = {
                language: str(compiler.sysroot / "bin" / name)
                for language, name in COMPILERS.items()
            }
    return flagged
