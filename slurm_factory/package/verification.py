"""The record of what a package did elsewhere, beside its manifest and bound to its tarball."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, ValidationError

from slurm_factory.constants import JSON_VERSION
from slurm_factory.exceptions import OutputError
from slurm_factory.output.text import visible
from slurm_factory.package.file_names import file_names
from slurm_factory.package.manifest import (
    File,
    Manifest,
    Name,
    Record,
    Sha256,
    Verified,
    load_manifest,
)
from slurm_factory.package.publish import describe, locked
from slurm_factory.package.signatures import sign
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import atomic_write, file_errors

Result = Literal["passed", "failed", "skipped"]
LONGEST_DETAIL = 4096
"""In characters."""


def _harmless(text: str) -> str:
    """The end of a text that a package may have printed, without control characters."""
    end = text[-LONGEST_DETAIL:].encode("utf-8", "replace").decode()
    return "\n".join(visible(line) for line in end.splitlines())


Harmless = Annotated[str, AfterValidator(_harmless)]


class Check(Record):
    """One check of a package."""

    name: str
    result: Result
    seconds: float
    detail: Harmless = ""
    """What it found; why it failed, or was skipped. The last line says it in short."""

    @property
    def brief(self) -> str:
        """The detail in one line."""
        return self.detail.strip().splitlines()[-1] if self.detail.strip() else ""


class Place(Record):
    """A cluster that ran from one path."""

    prefix: str
    """Directory of the tree (instance)."""
    checks: tuple[Check, ...]


class Trial(Record):
    """Clusters in a clean instance of one distribution."""

    distro: str
    """Such as debian@13."""
    title: str
    """The same for display, such as Debian 13."""
    glibc: Harmless
    """Version of the C library there."""
    kernel: Harmless
    at: AwareDatetime
    seconds: float
    places: tuple[Place, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks."""
        return tuple(check for place in self.places for check in place.checks)

    @property
    def passed(self) -> bool:
        """Whether something was checked, and nothing failed."""
        return has_passed(self.checks)


class Upgrade(Record):
    """The way from older packages to this one, with a running job."""

    distro: str
    releases: tuple[str, ...]
    """From the oldest to this one."""
    at: AwareDatetime
    seconds: float
    checks: tuple[Check, ...]


class Suite(Record):
    """Tests of the release's own test suite, run by plain Slurm and by the package."""

    distro: str
    source: Sha256
    """Checksum of the source archive that both, and the tests, are from."""
    seconds: float
    plain: dict[str, Result]
    package: dict[str, Result]

    @property
    def worse(self) -> tuple[str, ...]:
        """Tests that plain Slurm passes and the package does not."""
        passed = (name for name, result in self.plain.items() if result == "passed")
        return tuple(name for name in passed if self.package.get(name) != "passed")


class Verification(Record):
    """Everything that was checked of one package, at one time."""

    verification_version: Literal[1] = JSON_VERSION
    stem: Name
    release: Harmless
    created: AwareDatetime
    slurm_factory: str
    """Version of slurm-factory that checked it."""
    software: File
    """The tarball that was checked."""
    glibc: str
    """Highest glibc symbol version that a file needs."""
    static: tuple[Check, ...]
    trials: tuple[Trial, ...] = ()
    upgrades: tuple[Upgrade, ...] = ()
    suite: Suite | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks."""
        live = [check for trial in self.trials for check in trial.checks]
        hops = [check for upgrade in self.upgrades for check in upgrade.checks]
        return (*self.static, *live, *hops)

    @property
    def failures(self) -> tuple[Check, ...]:
        """Those that failed."""
        return tuple(check for check in self.checks if check.result == "failed")

    @property
    def passed(self) -> bool:
        """Whether something was checked, and nothing failed."""
        return has_passed(self.checks) and not (self.suite and self.suite.worse)

    @property
    def distributions(self) -> tuple[str, ...]:
        """Distributions on which clusters ran from the package, for display."""
        return tuple(trial.title for trial in self.trials if trial.passed)


def _with_earlier(new: Verification, earlier: Verification) -> Verification:
    """With what was seen before of the same tarball, where it was not looked at again."""
    distros = {trial.distro for trial in new.trials}
    ways = {(upgrade.distro, upgrade.releases) for upgrade in new.upgrades}
    trials = [trial for trial in earlier.trials if trial.distro not in distros]
    upgrades = [u for u in earlier.upgrades if (u.distro, u.releases) not in ways]
    return new.model_copy(
        update={
            "trials": (*trials, *new.trials),
            "upgrades": (*upgrades, *new.upgrades),
            "suite": new.suite or earlier.suite,
        }
    )


def has_passed(checks: tuple[Check, ...]) -> bool:
    """Whether one of the checks passed and none failed."""
    results = {check.result for check in checks}
    return "passed" in results and "failed" not in results


def record(
    verification: Verification,
    manifest: Manifest | None,
    path: Path | None,
    directory: Path,
    key: str = "",
) -> Path:
    """Write the record, and note in the manifest on which distributions the package works.

    A signed manifest stays as it is, unless it can be signed again.

    What was seen before on other distributions stays in the record, if it is about the same
    tarball. A package that was built again meanwhile stays as it is: the record is of the older
    one.

    Args:
        verification: What was checked.
        manifest: Manifest of the package as it was when the verification began, if there is one.
        path: Its file (host).
        directory: Directory (host) of the record.
        key: Names the key that signs the manifest again; empty: none.

    Returns:
        Path of the record.

    Raises:
        OutputError: It cannot be written, or the package is another one by now.
    """
    target = directory / file_names(verification.stem).verification
    with file_errors(target), locked(directory):
        now = load_manifest(path) if path else None
        if manifest and now and now.files != manifest.files:
            raise OutputError(
                f"{verification.stem} was built again while it was verified.",
                details="The result is about the package of before.",
                resolution=f"Verify it again: slurm-factory verify {verification.stem}",
            )
        whole = verification
        with suppress(OutputError):
            earlier = load_verification(target)
            if earlier.software == verification.software:
                whole = _with_earlier(verification, earlier)
        _replace(target, whole.model_dump_json(indent=2))
        signed = bool(path) and _is_signed(verification.stem, directory)
        if now and path and (key or not signed):
            value = _verified(now, verification, File.of(describe(target)))
            # An unsigned manifest is better than one whose signature does not fit.
            for name in file_names(verification.stem).signatures if signed else ():
                (directory / name).unlink(missing_ok=True)
            _replace(path, now.model_copy(update={"verified": value}).model_dump_json(indent=2))
    if signed and path and key:
        sign(path, key)
    return target


def _is_signed(stem: str, directory: Path) -> bool:
    return any((directory / name).exists() for name in file_names(stem).signatures)


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the new one; a link is replaced, and not followed."""
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())


def _verified(
    manifest: Manifest, verification: Verification, written: File
) -> Verified | Literal[False]:
    """What the manifest says: only of what this run has seen, or what it has said before."""
    if not verification.passed or verification.software not in manifest.files:
        return False
    seen = [trial for trial in verification.trials if trial.passed]
    before = manifest.verified.on if manifest.verified else ()
    on = tuple(dict.fromkeys((*before, *(trial.title for trial in seen))))
    if not on:
        return False
    dates = [trial.at for trial in seen]
    if manifest.verified:
        dates.append(manifest.verified.at)
    return Verified(at=max(dates), on=on, record=written)


def load_verification(path: Path) -> Verification:
    """The record at `path` (host).

    Raises:
        OutputError: It cannot be read, or is no such record.
    """
    try:
        return Verification.model_validate_json(read_text(path))
    except OSError as error:
        reason = f"{error.strerror or error}."
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError:
        reason = "It is not UTF-8."
    raise OutputError(
        f"The record {path} cannot be used.",
        details=reason,
        resolution="Verify the package again.",
    )
