"""The recipe `system`: Slurm compiled against the base distribution's own libraries."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from slurm_factory.constants import INSTANCE_PREFIX
from slurm_factory.exceptions import BuildError, SlurmFactoryError
from slurm_factory.fetch.upstream import sources_for
from slurm_factory.package.built import Built
from slurm_factory.plan.plan import COMPILER_FLAGS, LINKER_FLAGS
from slurm_factory.recipes.ccache import ccache_environment
from slurm_factory.recipes.compile_progress import CompileProgress
from slurm_factory.recipes.distro_libraries import InstanceLibraries, read_installed
from slurm_factory.recipes.feature_checks import check_config_h, require_files
from slurm_factory.resources import patches_dir

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job

NVML_HEADER = "nvidia/nvml_dev/include/nvml.h"
PLAIN_SHELL = ("SHELL=/bin/sh",)
"""Shell for make, which starts libtool two thousand times: dash takes half the time of bash.
configure itself needs bash, because it compares with ==.
"""
SOURCE_NAME = "/usr/src/slurm"
"""Prefix of file names in messages and debug macros, independent of the build directory."""


def check(_: Job) -> None:
    """Plans for this recipe do not depend on the machine or its settings."""


def sources(job: Job) -> dict[str, Source]:
    """All that is compiled."""
    return sources_for(job.plan, job.settings)


def prefetch(_: Job, __: Instance) -> tuple[Path, ...]:
    """It needs no other sources."""
    return ()


def build(job: Job, instance: Instance) -> Built:
    """Compile and install Slurm.

    Raises:
        BuildError: A step failed, or configure disabled a required feature.
    """
    cache = job.settings.source_cache_dir
    archives = {name: cache / source.stored_as for name, source in sources(job).items()}
    source = instance.build_dir / job.plan.release.tag
    reporter = job.reporter
    with reporter.step("Unpack and patch"):
        _unpack(job, instance, archives["slurm"], source)
    with reporter.step("Configure"), _evidence_kept(job, instance, source):
        if "nvml" in archives:
            _make_nvml_stub(job, instance, archives["nvml"])
        _configure(job, instance, source)
    with reporter.step("Compile"), _evidence_kept(job, instance, source):
        _make(job, instance, source)
    with reporter.step("Install and strip"):
        tree, installed = _install(job, instance, source)
    return Built(
        tree=tree,
        libraries=InstanceLibraries(job, instance),
        installed=read_installed(installed),
        build_paths=(str(instance.build_dir),),
        configure=job.plan.configure_arguments,
    )


def compiler_environment(job: Job, source: PurePosixPath) -> dict[str, str]:
    """Compiler and flags, the same for every step.

    configure runs without ccache, which would slow down its hundreds of tiny programs.
    """
    flags = [*COMPILER_FLAGS, f"-ffile-prefix-map={source}={SOURCE_NAME}"]
    return {
        "CC": "gcc",
        "CFLAGS": " ".join(flags),
        "LDFLAGS": " ".join(LINKER_FLAGS),
        "SOURCE_DATE_EPOCH": str(job.plan.release.epoch),
    }


@contextmanager
def _evidence_kept(job: Job, instance: Instance, source: PurePosixPath) -> Iterator[None]:
    """After a failure, copy config.log and config.h to the build log's directory."""
    try:
        yield
    except BuildError:
        logs = job.workspace.log.parent
        # The instance itself may have failed; report the first error.
        with suppress(SlurmFactoryError, OSError):
            instance.run_script(
                "keep-evidence.sh",
                {"SOURCE": source, "OUT": instance.inside(logs)},
                job.reporter.line,
            )
        raise


def _unpack(job: Job, instance: Instance, archive: Path, source: PurePosixPath) -> None:
    patches = job.workspace.work / "patches"
    patches.mkdir(exist_ok=True)
    for patch in job.plan.patches:
        shipped = patches_dir() / patch.name
        (patches / patch.name).write_bytes(patch.require(shipped.read_bytes()))
    instance.run_script(
        "unpack-slurm.sh",
        {
            "ARCHIVE": instance.inside(archive),
            "SOURCE": source,
            "PATCHES": instance.inside(patches),
            "PATCH_NAMES": "\n".join(patch.name for patch in job.plan.patches),
        },
        job.reporter.line,
    )


def _configure(job: Job, instance: Instance, source: PurePosixPath) -> None:
    build = str(instance.build_dir)
    arguments = [a.replace("{build}", build) for a in job.plan.configure_arguments]
    output: list[str] = []
    instance.run_script(
        "configure-slurm.sh",
        {
            **compiler_environment(job, source),
            "SOURCE": source,
            "CONFIGURE_ARGUMENTS": "\n".join(arguments),
            "SAVED": _saved_configure(job, instance),
        },
        _both(job.reporter.line, output.append),
    )
    config_h: list[str] = []
    instance.run(["cat", str(source / "config.h")], {}, config_h.append, what="Reading config.h")
    check_config_h(job.plan.selection.defines, config_h, output)


def _saved_configure(job: Job, instance: Instance) -> str:
    """Path of configure's saved result (instance) for the next build of this plan on this base.

    Empty on this machine, because the result contains the directory of the build.
    """
    if job.plan.destructive:
        return ""
    directory = job.settings.configure_dir
    directory.mkdir(parents=True, exist_ok=True)
    key = job.plan.build_key(instance.record)
    return str(instance.inside(directory / f"{key}.status"))


def _make_nvml_stub(job: Job, instance: Instance, wheel: Path) -> None:
    header = job.workspace.work / "nvml.h"
    with zipfile.ZipFile(wheel) as archive, archive.open(NVML_HEADER) as member:
        header.write_bytes(member.read())
    instance.run_script(
        "make-nvml-stub.sh",
        {
            "HEADER": instance.inside(header),
            "PREFIX": instance.build_dir / "nvml",
        },
        job.reporter.line,
    )


def _make(job: Job, instance: Instance, source: PurePosixPath) -> None:
    instance.run_script(
        "make-slurm.sh",
        {
            **compiler_environment(job, source),
            **ccache_environment(job, instance, source),
            "MAKE_ARGUMENTS": "\n".join((*PLAIN_SHELL, "CC=ccache gcc")),
            "SOURCE": source,
            "JOBS": str(job.jobs),
            "PREFIX": INSTANCE_PREFIX,
            "WITH_PAM": _with_pam(job),
        },
        CompileProgress(job.reporter, source),
    )


def _install(job: Job, instance: Instance, source: PurePosixPath) -> tuple[Path, Path]:
    """The tree, and the list of files in it from the instance (host)."""
    stage, installed = job.workspace.work / "stage", job.workspace.work / "installed.tsv"
    instance.run_script(
        "install-slurm.sh",
        {
            **compiler_environment(job, source),
            "SOURCE": source,
            "STAGE": instance.inside(stage),
            "MAKE_ARGUMENTS": "\n".join(PLAIN_SHELL),
            "PREFIX": INSTANCE_PREFIX,
            "JOBS": str(job.jobs),
            "WITH_PAM": _with_pam(job),
            "INSTALLED": instance.inside(installed),
        },
        job.reporter.line,
    )
    tree = job.workspace.work / "software"
    (stage / INSTANCE_PREFIX.relative_to("/")).rename(tree)
    shutil.rmtree(stage)
    instance.run_script("strip-tree.sh", {"TREE": instance.inside(tree)}, job.reporter.line)
    require_files(job.plan.selection.files, tree)
    return tree, installed


def _with_pam(job: Job) -> str:
    chosen = any(feature.name == "pam" for feature in job.plan.selection.chosen)
    return "yes" if chosen else "no"


def _both(*takers: Callable[[str], None]) -> Callable[[str], None]:
    def take(line: str) -> None:
        for taker in takers:
            taker(line)

    return take
