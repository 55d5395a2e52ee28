"""From the manifest of a package to the request that builds it again.

A manifest may be written by anybody. So it only chooses among what this machine knows: a release of
its catalogs, sources and patches that the user gives, refs of the Spack that the settings name. All
of that is checked against the manifest before anything is built.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from slurm_factory.config import Settings
from slurm_factory.config_types import CpuTarget, GitRef
from slurm_factory.constants import BASE_GLIBC, SAME, BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.releases import Backports, Release, catalog
from slurm_factory.request import BuildOptions, plan_request, read_catalog, read_request
from slurm_factory.util.hints import printable

if TYPE_CHECKING:
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import Manifest
    from slurm_factory.plan.plan import BuildPlan, BuildRequest

DEFAULT_SUFFIX = re.compile(r"p[0-9a-f]{7}", re.ASCII)
"""Of patches without a name (`plan.SitePatch`)."""


@dataclass(frozen=True)
class Given:
    """What the user gives again, since no manifest is trusted with it.

    Attributes:
        patches: The user's patches (host), in the order of the package.
        source: The user's own source, as `--source` names it.
        destructive_mode: Build on this machine, not in LXD.
        jobs: Number of parallel compilers.
        offline: Download nothing.
        caches: Take what earlier builds have compiled, found out and decided.
    """

    patches: tuple[Path, ...] = ()
    source: str = ""
    destructive_mode: bool = False
    jobs: int | None = None
    offline: bool = False
    caches: bool = False


@dataclass(frozen=True)
class Again:
    """What builds a package again.

    Attributes:
        plan: The plan.
        settings: The settings, with the refs and the target of the package's Spack.
        lock: Text of the package's spack.lock; empty: Spack decides.
    """

    plan: BuildPlan
    settings: Settings
    lock: str


class _Patch(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class _Recorded(BaseModel):
    """The parts of a manifest's plan that say what to ask for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: Release
    architecture: str
    glibc: str | None
    destructive: bool
    variants: dict[str, bool]
    backports: Backports | None
    site_patches: tuple[_Patch, ...]
    spack: dict[str, Any] | None = None


def plan_again(manifest: Manifest, given: Given, settings: Settings, reporter: Reporter) -> Again:
    """The plan of another build of a package.

    Args:
        manifest: Manifest of the package.
        given: What the user gives again.
        settings: Settings of this site.
        reporter: Shows what is fetched.

    Raises:
        ConfigurationError: The manifest contradicts itself, or names something that is not known
            here, or that the user has not given.
        DownloadError: The source or a catalog could not be fetched.
        OutputError: A file cannot be read, or the cache directory cannot be used.
    """
    recorded = _read(manifest)
    settings = _with_its_spack(recorded, settings, reporter)
    options = _options(manifest, recorded, given)
    request = read_request(options, settings, reporter)
    _require_its_patches(recorded, request)
    if recorded.release.location:
        _require_its_source(recorded, request)
    else:
        known = _known_release(recorded, settings, reporter, given)
        request = replace(request, catalog=(known,))
    if request.spack and not given.caches:
        # Their packages are built again, too.
        request = replace(request, spack=replace(request.spack, buildcaches=()))
    plan = plan_request(request)
    if plan.stem != manifest.identity.stem:
        raise _refusal(
            manifest,
            f"It is called {manifest.identity.stem}, and what its manifest describes {plan.stem}.",
        )
    lock = manifest.spack.lock if manifest.spack and not given.caches else {}
    return Again(plan, settings, json.dumps(lock) if lock else "")


def _read(manifest: Manifest) -> _Recorded:
    try:
        return _Recorded.model_validate(manifest.plan)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _refusal(manifest, f"plan.{where} in its manifest: {first['msg']}.") from error


def _refusal(manifest: Manifest, details: str) -> ConfigurationError:
    return ConfigurationError(
        f"The package {manifest.identity.stem} cannot be built again.",
        details=details,
        resolution="Somebody has changed the manifest, or another version of slurm-factory wrote it"
        f" ({printable(manifest.slurm_factory)}): use that one.",
    )


def _options(manifest: Manifest, recorded: _Recorded, given: Given) -> BuildOptions:
    identity = manifest.identity
    requested, _, suffix = identity.version.partition("+")
    own = suffix.split(".")[-1] if recorded.site_patches else ""
    spack = identity.deps is Deps.SPACK
    return BuildOptions(
        slurm_version=requested,
        source=_source(recorded, given),
        gpu=identity.build_type is BuildType.GPU,
        minimal=identity.build_type is BuildType.MINIMAL,
        additional_variants=" ".join(
            f"{'+' if on else '~'}{name}" for name, on in recorded.variants.items()
        ),
        deps=identity.deps,
        base=SAME if given.destructive_mode else identity.base,
        glibc=(recorded.glibc or BASE_GLIBC) if spack else "",
        arch=recorded.architecture,
        destructive_mode=given.destructive_mode,
        jobs=given.jobs,
        offline=given.offline,
        backports=recorded.backports is not None,
        patches=given.patches,
        suffix="" if DEFAULT_SUFFIX.fullmatch(own) else own,
    )


def _source(recorded: _Recorded, given: Given) -> str:
    release = recorded.release
    if bool(release.location) == bool(given.source):
        return given.source
    if given.source:
        raise ConfigurationError(
            "--source is given, and the package was built from a release of the catalog.",
            details=f"Its manifest says: Slurm {release.release}, {release.url}.",
            resolution="Omit --source.",
        )
    where = release.location + (f" at {release.commit}" if release.commit else "")
    raise ConfigurationError(
        "The package was built from a source of its own.",
        details=f"Its manifest says: {printable(where)}, SHA-256 {release.sha256}. slurm-factory"
        " does not fetch what a manifest names.",
        resolution="Give the source again: --source FILE, or git+URL@COMMIT.",
    )


def _require_its_source(recorded: _Recorded, request: BuildRequest) -> None:
    source = request.source
    if source is None or source.sha256 != recorded.release.sha256:
        raise ConfigurationError(
            "--source is not the source of the package.",
            details=f"Its SHA-256 is {source and source.sha256}; the manifest says"
            f" {recorded.release.sha256}.",
            resolution="Give the same archive, or the same commit.",
        )


def _require_its_patches(recorded: _Recorded, request: BuildRequest) -> None:
    ours = [(patch.name, patch.sha256) for patch in recorded.site_patches]
    theirs = [(patch.name, patch.sha256) for patch in request.patches]
    if ours == theirs:
        return
    listed = ", ".join(f"{printable(name)} ({printable(sha256)})" for name, sha256 in ours)
    wrong = [name for name, _ in theirs if (name, dict(theirs)[name]) not in ours]
    raise ConfigurationError(
        "The patches are not those of the package.",
        details=f"Its manifest says: {listed or 'none'}."
        + (f" Not among them: {', '.join(wrong)}." if wrong else ""),
        resolution="Give the same files in the same order, each with --patch."
        if ours
        else "Omit --patch.",
    )


def _known_release(
    recorded: _Recorded, settings: Settings, reporter: Reporter, given: Given
) -> Release:
    """The release of a catalog that the manifest means: nothing is fetched from elsewhere."""
    release = recorded.release
    known = read_catalog(settings, reporter, offline=given.offline) or catalog()
    found = next((each for each in known if each.release == release.release), None)
    if found is None:
        raise ConfigurationError(
            f"No catalog here has Slurm {release.release}.",
            details=f"The manifest names {release.url}, SHA-256 {release.sha256}.",
            resolution="Run `slurm-factory versions --update`, or name the catalog that has it:"
            " SLURM_FACTORY_CATALOGUES.",
        )
    if found.sha256 is None:
        found = found.model_copy(update={"sha256": release.sha256})
    if found.sha256 != release.sha256:
        raise ConfigurationError(
            f"The package was built from another source of Slurm {release.release}.",
            details=f"Its SHA-256 is {release.sha256} in the manifest, and {found.sha256} in the"
            f" catalog ({found.url}).",
            resolution="Do not use the package before you know why. With --source, build from the"
            " archive that you trust.",
        )
    if recorded.backports is None:
        return found
    if found.backports is None or found.backports.sha256 != recorded.backports.sha256:
        here = found.backports.name if found.backports else "none"
        raise ConfigurationError(
            f"The package has other patches of Debian: {recorded.backports.name}.",
            details=f"The catalog here has {here} for Slurm {release.release}.",
            resolution="Use the slurm-factory that built it, or build the package anew.",
        )
    return found


def _with_its_spack(recorded: _Recorded, settings: Settings, reporter: Reporter) -> Settings:
    """Settings with the refs and the target that the manifest names, of the same repositories."""
    spack = recorded.spack
    if spack is None:
        return settings
    names = {"spack_ref": "ref", "spack_packages_ref": "packages_ref", "spack_target": "target"}
    types: dict[str, Any] = {"spack_target": CpuTarget}
    changes: dict[str, str] = {}
    for setting, name in names.items():
        value = spack.get(name)
        if value in {None, getattr(settings, setting)}:  # None: of a plain directory.
            continue
        try:
            changes[setting] = TypeAdapter(types.get(setting, GitRef)).validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(
                f"The manifest names an impossible {setting}: {printable(str(value))}.",
                details="No slurm-factory writes that.",
                resolution="Get the manifest again from where the package was built.",
            ) from error
    for setting, value in changes.items():
        reporter.note(f"{setting} is {value}, as in the manifest.")
    return settings.model_copy(update=changes)
