"""The recipe `system`: Slurm compiled against the base distribution's own libraries."""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from slurm_factory.constants import INSTANCE_PREFIX
from slurm_factory.exceptions import BuildError, SlurmFactoryError
from slurm_factory.fetch.upstream import sources_for
from slurm_factory.instances.instance import CommandError, Mount
from slurm_factory.package.built import Built
from slurm_factory.recipes.ccache import cached, ccache_environment, compiler_cache
from slurm_factory.recipes.compile_progress import CompileProgress
from slurm_factory.recipes.configure_results import ConfigureResults
from slurm_factory.recipes.distro_libraries import InstanceLibraries, installed_packages
from slurm_factory.recipes.feature_checks import check_config_h, require_files
from slurm_factory.recipes.patches import PatchFile, PatchProgress, applied, patch_files
from slurm_factory.relocate.policy import load_policy
from slurm_factory.relocate.relocate import find_closure

if TYPE_CHECKING:
    from pathlib import Path, PurePath, PurePosixPath

    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job
    from slurm_factory.package.built import Package

NVML_HEADER = "nvidia/nvml_dev/include/nvml.h"
MOST_LINES = 20_000
"""Lines of configure's output that are kept to explain a missing feature; it prints about 900."""
PLAIN_SHELL = ("SHELL=/bin/sh",)
"""Shell for make, which starts libtool two thousand times: dash takes half the time of bash.
configure itself needs bash, because it compares with ==.
"""
EVIDENCE = ("config.log", "config.h")
SOURCE_NAME = "/usr/src/slurm"
"""Prefix of file names in messages and debug macros, independent of the build directory."""


def check(_: Job) -> None:
    """Plans for this recipe do not depend on the machine or its settings."""


def sources(job: Job) -> dict[str, Source]:
    """All that is compiled."""
    return sources_for(job.plan, job.settings)


def mounts(job: Job) -> tuple[Mount, ...]:
    """The directories of this machine that the instance of a build sees."""
    return (
        Mount(job.settings.source_cache_dir),
        Mount(job.workspace.input, shared=False),
        Mount(compiler_cache(job), writable=True),
    )


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
        patches = patch_files(job.plan, job.settings)
        _unpack(job, instance, archives["slurm"], source, patches)
    with reporter.step("Configure"), _evidence_kept(job, instance, source):
        if "nvml" in archives:
            _make_nvml_stub(job, instance, archives["nvml"])
        _configure(job, instance, source)
    with reporter.step("Compile"), _evidence_kept(job, instance, source):
        _make(job, instance, source)
    with reporter.step("Install and strip"):
        tree, installed = _install(job, instance, source)
    with reporter.step("Collect libraries"):
        libraries = InstanceLibraries(job, instance)
        closure = find_closure(tree, libraries, load_policy())
        common_licenses = libraries.fetch_common_licenses()
    return Built(
        tree=tree,
        closure=closure,
        packages=libraries.packages,
        common_licenses=common_licenses,
        installed=installed,
        build_paths=(str(instance.build_dir),),
        configure=job.plan.configure_arguments,
        patches=applied(patches, job.plan),
    )


def compiler_environment(job: Job, source: PurePosixPath) -> dict[str, str]:
    """Compiler and flags, the same for every step.

    configure runs without ccache, which would slow down its hundreds of tiny programs.
    """
    flags = [*job.plan.compiler.slurm, f"-ffile-prefix-map={source}={SOURCE_NAME}"]
    return {
        "CC": job.plan.compiler.tool("gcc"),
        "CFLAGS": " ".join(flags),
        "LDFLAGS": " ".join(job.plan.compiler.slurm_linker),
        "SOURCE_DATE_EPOCH": str(job.plan.release.epoch),
    }


@contextmanager
def _evidence_kept(job: Job, instance: Instance, source: PurePosixPath) -> Iterator[None]:
    """After a failure, copy config.log and config.h to the build log's directory."""
    try:
        yield
    except BuildError:
        logs = job.workspace.log.parent
        for name in EVIDENCE:
            # The instance itself may have failed; report the first error.
            with suppress(SlurmFactoryError, OSError):
                (logs / name).write_bytes(instance.take_file(source / name))
        raise


def _unpack(
    job: Job,
    instance: Instance,
    archive: Path,
    source: PurePosixPath,
    patches: Sequence[PatchFile],
) -> None:
    directory = job.workspace.input / "patches"
    directory.mkdir(exist_ok=True)
    for patch in patches:
        (directory / patch.name).write_bytes(patch.content)
    progress = PatchProgress(job.reporter.line)
    try:
        instance.run_script(
            "unpack-slurm.sh",
            {
                "ARCHIVE": instance.inside(archive),
                "SOURCE": source,
                "PATCHES": instance.inside(directory),
                "PATCH_NAMES": "\n".join(patch.name for patch in patches),
            },
            progress,
        )
    except CommandError as error:
        if progress.failed:
            raise progress.error(job.plan.release.release) from error
        raise


def _configure(job: Job, instance: Instance, source: PurePosixPath) -> None:
    build = str(instance.build_dir)
    arguments = [a.replace("{build}", build) for a in job.plan.configure_arguments]
    results = ConfigureResults(job, instance)
    output: deque[str] = deque(maxlen=MOST_LINES)

    def take(line: str) -> None:
        job.reporter.line(line)
        output.append(line)

    instance.run_script(
        "configure-slurm.sh",
        {
            **compiler_environment(job, source),
            "SOURCE": source,
            "CONFIGURE_ARGUMENTS": "\n".join(arguments),
            **results.parameters(),
        },
        take,
    )
    config_h = instance.take_file(source / "config.h").decode(errors="replace").splitlines()
    check_config_h(job.plan.selection.defines, config_h, output)
    results.save(source)


def _make_nvml_stub(job: Job, instance: Instance, wheel: Path) -> None:
    header = job.workspace.input / "nvml.h"
    with zipfile.ZipFile(wheel) as archive, archive.open(NVML_HEADER) as member:
        header.write_bytes(member.read())
    instance.run_script(
        "make-nvml-stub.sh",
        {
            "HEADER": instance.inside(header),
            "PREFIX": instance.build_dir / "nvml",
            "CC": job.plan.compiler.tool("gcc"),
        },
        job.reporter.line,
    )


def _make(job: Job, instance: Instance, source: PurePosixPath) -> None:
    compiler = job.plan.compiler
    progress = CompileProgress(job.reporter, source)
    environment: dict[str, str | PurePath] = {
        **compiler_environment(job, source),
        **ccache_environment(job, instance, source),
        "MAKE_ARGUMENTS": "\n".join(
            (*PLAIN_SHELL, f"CC={cached(compiler.tool('gcc'))}", *compiler.make)
        ),
        "SOURCE": source,
        "JOBS": str(job.jobs),
        "PREFIX": INSTANCE_PREFIX,
        "WITH_PAM": _with(job, "pam"),
        "WITH_PERL": _with(job, "perl"),
    }
    try:
        instance.run_script("make-slurm.sh", environment, progress)
    except CommandError as error:
        if progress.error is None:
            raise
        # The last lines are those of make.
        resolution = error.resolution
        raise BuildError(error.brief, details=f"{progress.error}", resolution=resolution) from error


def _install(
    job: Job, instance: Instance, source: PurePosixPath
) -> tuple[Path, dict[PurePosixPath, Package]]:
    """The tree (host), and the package of each program in it that is not Slurm's."""
    stage, installed = instance.build_dir / "stage", instance.build_dir / "installed.tsv"
    made = stage / INSTANCE_PREFIX.relative_to("/")
    instance.run_script(
        "install-slurm.sh",
        {
            **compiler_environment(job, source),
            "SOURCE": source,
            "STAGE": stage,
            "MAKE_ARGUMENTS": "\n".join((*PLAIN_SHELL, *job.plan.compiler.make)),
            "PREFIX": INSTANCE_PREFIX,
            "JOBS": str(job.jobs),
            "WITH_PAM": _with(job, "pam"),
            "WITH_PERL": _with(job, "perl"),
            "INSTALLED": installed,
        },
        job.reporter.line,
    )
    strip = job.plan.compiler.tool("strip")
    instance.run_script("strip-tree.sh", {"TREE": made, "STRIP": strip}, job.reporter.line)
    tree = job.workspace.work / "software"
    instance.take_directory(made, tree, links=True)
    require_files(job.plan.selection.files, tree)
    return tree, installed_packages(instance.take_file(installed))


def _with(job: Job, name: str) -> str:
    """For a script, whether a package contains a feature."""
    chosen = any(feature.name == name for feature in job.plan.selection.chosen)
    return "yes" if chosen else "no"
