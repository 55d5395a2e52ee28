"""The recipe `system`: Slurm compiled against the base distribution's own libraries."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from slurm_factory.constants import INSTANCE_PREFIX
from slurm_factory.exceptions import BuildError, SlurmFactoryError
from slurm_factory.plan import COMPILER_FLAGS, LINKER_FLAGS
from slurm_factory.recipes.ccache import ccache_environment
from slurm_factory.recipes.libraries import installed_list
from slurm_factory.recipes.promises import require_defines, require_files
from slurm_factory.resources import patches_dir

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from slurm_factory.recipes import Workshop

NVML_HEADER = "nvidia/nvml_dev/include/nvml.h"
PLAIN_SHELL = ("SHELL=/bin/sh",)
"""For make, which starts libtool two thousand times: where this is dash, in half the time of bash.

Configure chooses bash, and has to run in it: it compares with ==.
"""
SOURCE_NAME = "/usr/src/slurm"
"""What file names in messages and debug macros begin with, wherever the build took place."""


def build(workshop: Workshop) -> Path:
    """Compile and install Slurm.

    Returns:
        The installed and stripped tree (host), not yet relocated.

    Raises:
        BuildError: A step failed, or configure turned down what the feature table promises.
    """
    source = workshop.instance.build_dir / workshop.plan.release.tag
    reporter = workshop.reporter
    with reporter.step("Unpack and patch"):
        _unpack(workshop, source)
    with reporter.step("Configure"), _evidence_kept(workshop, source):
        _configure(workshop, source)
    with reporter.step("Compile"), _evidence_kept(workshop, source):
        _make(workshop, source)
    with reporter.step("Install and strip"):
        return _install(workshop, source)


def compiler_environment(workshop: Workshop, source: PurePosixPath) -> dict[str, str]:
    """Compiler and flags, the same for every step.

    Configure goes without ccache: its hundreds of tiny programs take longer with it than without.
    """
    flags = [*COMPILER_FLAGS, f"-ffile-prefix-map={source}={SOURCE_NAME}"]
    return {
        "CC": "gcc",
        "CFLAGS": " ".join(flags),
        "LDFLAGS": " ".join(LINKER_FLAGS),
        "SOURCE_DATE_EPOCH": str(workshop.plan.release.epoch),
    }


@contextmanager
def _evidence_kept(workshop: Workshop, source: PurePosixPath) -> Iterator[None]:
    """After a failure, config.log and config.h lie beside the build log."""
    try:
        yield
    except BuildError:
        logs = workshop.settings.logs_dir / workshop.work.name
        # The instance may be what failed; the user should read the first error.
        with suppress(SlurmFactoryError, OSError):
            workshop.instance.run_script(
                "keep-evidence.sh",
                {"SOURCE": source, "OUT": workshop.instance.inside(logs)},
                workshop.reporter.line,
            )
        raise


def _unpack(workshop: Workshop, source: PurePosixPath) -> None:
    patches = workshop.work / "patches"
    patches.mkdir(exist_ok=True)
    names = [patch.name for patch in workshop.plan.patches]
    for name in names:
        (patches / name).write_bytes((patches_dir() / name).read_bytes())
    workshop.instance.run_script(
        "unpack-slurm.sh",
        {
            "ARCHIVE": workshop.instance.inside(workshop.sources["slurm"]),
            "SOURCE": source,
            "PATCHES": workshop.instance.inside(patches),
            "PATCH_NAMES": "\n".join(names),
        },
        workshop.reporter.line,
    )


def _configure(workshop: Workshop, source: PurePosixPath) -> None:
    if "nvml" in workshop.sources:
        _make_nvml_stub(workshop)
    build = str(workshop.instance.build_dir)
    arguments = [a.replace("{build}", build) for a in workshop.plan.configure_arguments]
    said: list[str] = []
    workshop.instance.run_script(
        "configure-slurm.sh",
        {
            **compiler_environment(workshop, source),
            "SOURCE": source,
            "CONFIGURE_ARGUMENTS": "\n".join(arguments),
            "KEPT": _kept_outcome(workshop),
        },
        _both(workshop.reporter.line, said.append),
    )
    config_h: list[str] = []
    workshop.instance.run(
        ["cat", str(source / "config.h")], {}, config_h.append, what="Reading config.h"
    )
    require_defines(workshop.plan.selection.defines, config_h, said)


def _kept_outcome(workshop: Workshop) -> str:
    """Where configure's outcome is kept (instance) for the next build of this plan on this base.

    Empty on this machine, where each build has a directory of its own and the outcome names it.
    """
    if workshop.plan.destructive:
        return ""
    kept = workshop.settings.configure_dir
    kept.mkdir(parents=True, exist_ok=True)
    key = workshop.plan.build_key(workshop.instance.record)
    return str(workshop.instance.inside(kept / f"{key}.status"))


def _make_nvml_stub(workshop: Workshop) -> None:
    header = workshop.work / "nvml.h"
    with zipfile.ZipFile(workshop.sources["nvml"]) as wheel, wheel.open(NVML_HEADER) as member:
        header.write_bytes(member.read())
    workshop.instance.run_script(
        "make-nvml-stub.sh",
        {
            "HEADER": workshop.instance.inside(header),
            "PREFIX": workshop.instance.build_dir / "nvml",
        },
        workshop.reporter.line,
    )


def _make(workshop: Workshop, source: PurePosixPath) -> None:
    workshop.instance.run_script(
        "make-slurm.sh",
        {
            **compiler_environment(workshop, source),
            **ccache_environment(workshop, source),
            "MAKE_ARGUMENTS": "\n".join((*PLAIN_SHELL, "CC=ccache gcc")),
            "SOURCE": source,
            "JOBS": str(workshop.jobs),
            "PREFIX": INSTANCE_PREFIX,
            "WITH_PAM": _with_pam(workshop),
        },
        workshop.reporter.line,
    )


def _install(workshop: Workshop, source: PurePosixPath) -> Path:
    stage = workshop.work / "stage"
    workshop.instance.run_script(
        "install-slurm.sh",
        {
            **compiler_environment(workshop, source),
            "SOURCE": source,
            "STAGE": workshop.instance.inside(stage),
            "MAKE_ARGUMENTS": "\n".join(PLAIN_SHELL),
            "PREFIX": INSTANCE_PREFIX,
            "JOBS": str(workshop.jobs),
            "WITH_PAM": _with_pam(workshop),
            "INSTALLED": workshop.instance.inside(installed_list(workshop)),
        },
        workshop.reporter.line,
    )
    tree = workshop.work / "software"
    (stage / INSTANCE_PREFIX.relative_to("/")).rename(tree)
    shutil.rmtree(stage)
    workshop.instance.run_script(
        "strip-tree.sh", {"TREE": workshop.instance.inside(tree)}, workshop.reporter.line
    )
    require_files(workshop.plan.selection.files, tree)
    return tree


def _with_pam(workshop: Workshop) -> str:
    chosen = any(feature.name == "pam" for feature in workshop.plan.selection.chosen)
    return "yes" if chosen else "no"


def _both(*takers: Callable[[str], None]) -> Callable[[str], None]:
    def take(line: str) -> None:
        for taker in takers:
            taker(line)

    return take
