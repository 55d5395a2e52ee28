"""The settings of Spack: version, target CPU, and configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml
from archspec.cpu import TARGETS, host
from yaml.constructor import ConstructorError

from slurm_factory.config import BUILDCACHE, ENVIRONMENT_PREFIX, SITE_BUILDCACHES, Settings
from slurm_factory.constants import (
    INSTANCE_CACHE,
    INSTANCE_SPACK,
    INSTANCE_SPACK_PACKAGES,
    SPACK_NAMESPACE,
)
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.base_setup import SpackRefs, spack_version, unpacked_at
from slurm_factory.plan.plan import SpackChoice, default_target
from slurm_factory.util.hints import did_you_mean, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = ("concretizer", "config", "env_vars", "packages", "repos", "toolchains")
"""Sections of Spack's configuration that a site may add to
(spack.readthedocs.io/en/latest/configuration.html); the others are for other uses of Spack, or name
files that are not in the instance. Spack would use `mirrors` with `--offline` too, and its
passwords would be in manifests."""
REF_SETTINGS = ("spack_url", "spack_ref", "spack_packages_url", "spack_packages_ref")
OVERRIDING = "+-:"
"""Characters at the end of a key with which Spack replaces or extends (same page, "Overriding")."""
OWN_REPOSITORIES = frozenset({SPACK_NAMESPACE, "builtin"})
"""Defined in spack.yaml, which takes precedence over a site's configuration."""
SPACK_ITSELF = ("$spack/", f"{INSTANCE_SPACK}/", f"{INSTANCE_SPACK_PACKAGES}/")
"""Directories of an instance's own repositories."""


class _Loader(yaml.SafeLoader):
    """Reports the position of a value that does not match its form or tag."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConstructorError(
                problem="this value is invalid", problem_mark=node.start_mark
            ) from error


def choose_spack(settings: Settings, architecture: str) -> SpackChoice:
    """The settings of Spack.

    Args:
        settings: Settings of this site.
        architecture: As uname(1) names it; determines the default target.

    Raises:
        ConfigurationError: The file that `spack_config` names cannot be used, there is no such
            target, or a ref was set for unpacked files.
    """
    if settings.spack_target:
        require_target(settings.spack_target, architecture)
    config = (
        load_spack_config(settings.spack_config, settings.cache_dir)
        if settings.spack_config
        else ""
    )
    refs = SpackRefs(
        url=settings.spack_url,
        ref=settings.spack_ref,
        packages_url=settings.spack_packages_url,
        packages_ref=settings.spack_packages_ref,
    )
    return SpackChoice(
        refs=refs,
        target=settings.spack_target or default_target(architecture),
        config=config,
        packages=settings.spack_base_packages,
        source_mirrors=settings.source_mirrors,
        buildcaches=settings.spack_buildcaches,
        signed=not settings.spack_unsigned_buildcaches,
        ignored_refs=_ignored_refs(settings),
        buildcache=_buildcache(refs, config),
    )


def _buildcache(refs: SpackRefs, config: str) -> str:
    """Packages by other recipes than the default ones go to a cache of their own, which no other
    build uses."""
    default = SpackRefs(*(Settings.model_fields[name].default for name in REF_SETTINGS))
    if refs == default and not config:
        return BUILDCACHE
    recipes = json.dumps([config, asdict(refs.redacted)])
    return f"{SITE_BUILDCACHES}/{hashlib.sha256(recipes.encode()).hexdigest()[:16]}"


def seen_repositories(config: str) -> tuple[PurePosixPath, ...]:
    """Directories of a site's package repositories, relative to the cache directory.

    Args:
        config: As `load_spack_config` returns it, or empty.
    """
    locations = [value for _, value in _repositories(yaml.safe_load(config) or {})]
    paths = [PurePosixPath(location) for location in locations if isinstance(location, str)]
    below = [path for path in paths if path.is_relative_to(INSTANCE_CACHE)]
    return tuple(dict.fromkeys(path.relative_to(INSTANCE_CACHE) for path in below))


def _ignored_refs(settings: Settings) -> tuple[str, ...]:
    """Fields of SpackRefs whose ref is meaningless because the source is a plain directory."""
    spack, packages = unpacked_at(settings.spack_url), unpacked_at(settings.spack_packages_url)
    if spack:
        _require_no_ref("spack_ref", settings.spack_ref, spack, spack_version(spack))
    if packages:
        _require_no_ref("spack_packages_ref", settings.spack_packages_ref, packages)
    return ("ref",) * (spack is not None) + ("packages_ref",) * (packages is not None)


def _require_no_ref(setting: str, ref: str, directory: Path, version: str = "") -> None:
    """Refuse a ref for a plain directory (host), in which it cannot be looked up.

    A ref that matches the version in the files is fine, and so is the default.
    """
    if ref in {Settings.model_fields[setting].default, f"v{version}"}:
        return
    variable = f"{ENVIRONMENT_PREFIX}{setting.upper()}"
    raise ConfigurationError(
        f"{variable}={ref} cannot be used with unpacked files.",
        details=f"{directory} contains Spack {version} and is not a git repository."
        if version
        else f"{directory} is not a git repository.",
        resolution=f"Unset {variable}, or set the URL to a git repository.",
    )


def load_spack_config(path: Path, cache_dir: Path) -> str:
    """Read the user's own configuration of Spack.

    Args:
        path: Path of the file (host).
        cache_dir: The only directory of this machine that instances see (host).

    Returns:
        The unchanged text, for Spack to include.

    Raises:
        ConfigurationError: It cannot be read, is not YAML, or is not a Spack configuration.
    """
    try:
        text = path.read_text("utf-8")
        document = yaml.load(text, _Loader)  # noqa: S506  # it is a SafeLoader
    except OSError as error:
        raise _refusal(path, "cannot be read", f"{error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise _refusal(path, "is not YAML", f"Byte {error.start + 1} is not UTF-8.") from error
    except yaml.YAMLError as error:
        raise _refusal(path, "is not YAML", _where(error)) from error
    except RecursionError as error:
        raise _refusal(path, "cannot be used", "Its lists are nested too deeply.") from error
    if not isinstance(document, dict):
        raise _refusal(
            path, "is not a Spack configuration", "Its top level is not a mapping of sections."
        )
    _require_sections(path, document)
    _require_visible_repositories(path, document, cache_dir)
    return text


def cloned_repositories(config: str) -> tuple[str, ...]:
    """Names of the package repositories in a site's configuration that Spack clones.

    Args:
        config: As `load_spack_config` returns it, or empty.
    """
    repositories = _repositories(yaml.safe_load(config) or {})
    return tuple(name for name, value in repositories if isinstance(value, dict))


def _repositories(document: dict[object, object]) -> Iterator[tuple[str, object]]:
    """Name and location of each repository; without ours, which no site can replace."""
    for section in _sections(document, "repos"):
        if isinstance(section, dict):
            named = ((str(name).rstrip(OVERRIDING), value) for name, value in section.items())
            yield from ((name, value) for name, value in named if name not in OWN_REPOSITORIES)


def _sections(document: dict[object, object], name: str) -> list[object]:
    return [section for key, section in document.items() if str(key).rstrip(OVERRIDING) == name]


def _require_visible_repositories(
    path: Path, document: dict[object, object], cache_dir: Path
) -> None:
    """Spack only warns about a missing repository, and concretizes without its package recipes."""
    if any(isinstance(section, list) for section in _sections(document, "repos")):
        raise _refusal(
            path, "has a list of repositories", "Spack 1.1 needs names: repos: {NAME: DIRECTORY}."
        )
    for name, value in _repositories(document):
        directory = value if isinstance(value, str) else ""
        if not isinstance(value, dict) and not _is_visible(directory, cache_dir):
            raise _refusal(
                path,
                f"contains a repository that instances do not see: {quoted(name)}",
                f"Instances see {cache_dir} as {INSTANCE_CACHE}: put the directory with"
                " repo.yaml there, and use that path.",
            )


def _is_visible(directory: str, cache_dir: Path) -> bool:
    if directory.startswith(SPACK_ITSELF):
        return True
    try:
        below = PurePosixPath(directory).relative_to(INSTANCE_CACHE)
        # The cache directory itself would show everything in it.
        inside = bool(below.parts) and ".." not in below.parts
        return inside and (cache_dir / below / "repo.yaml").is_file()
    except (ValueError, OSError):
        return False


def _require_sections(path: Path, document: dict[object, object]) -> None:
    for key in document:
        name = str(key).rstrip(OVERRIDING)
        if name == "spack":
            raise _refusal(
                path,
                "is an environment of Spack, not a configuration",
                "Move the sections below `spack:` to the top; slurm-factory sets specs and views"
                " itself.",
            )
        if name == "mirrors":
            raise _refusal(
                path,
                "contains mirrors, which are separate settings",
                "Set SLURM_FACTORY_SOURCE_MIRRORS for sources, and"
                " SLURM_FACTORY_SPACK_BUILDCACHES for build caches.",
            )
        if name not in SECTIONS:
            raise _refusal(
                path,
                f"has a section that slurm-factory does not support: {quoted(name)}",
                did_you_mean(name, SECTIONS, f"Supported sections: {', '.join(SECTIONS)}."),
            )


def _where(error: yaml.YAMLError) -> str:
    """Line and column, both from one, and the problem."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"Line {mark.line + 1}, column {mark.column + 1}: {error.problem}."
    return f"{' '.join(str(error).split())}."


def _refusal(path: Path, what: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The file {path} {what}.",
        details=why,
        resolution="Correct it, or unset SLURM_FACTORY_SPACK_CONFIG.",
    )


def require_target(target: str, architecture: str) -> None:
    """Refuse a target that does not exist on this architecture.

    Args:
        target: Value of the setting.
        architecture: Architecture of this machine, as uname(1) names it.

    Raises:
        ConfigurationError: archspec does not know it, or it belongs to another architecture.
    """
    names = [name for name, cpu in TARGETS.items() if cpu.family.name == architecture]
    if target in names:
        return
    usable = [name for name in names if _is_runnable(name)] or names
    levels = ", ".join(sorted(name for name in usable if TARGETS[name].vendor == "generic"))
    raise ConfigurationError(
        f"There is no CPU target {quoted(target)} of {architecture}.",
        details=did_you_mean(target, usable, f"Use {levels}, or the name of a CPU."),
        resolution="Correct SLURM_FACTORY_SPACK_TARGET, or unset it.",
    )


def require_runnable(target: str) -> None:
    """Refuse a target whose programs this machine's CPU cannot run: Spack cannot build for it.

    Raises:
        ConfigurationError: It cannot run them; names the best supported level.
    """
    here = host()
    if target not in TARGETS or _is_runnable(target):
        return
    raise ConfigurationError(
        f"This machine's CPU cannot run programs for {target}.",
        details=f"It is a {here.name}, and builds run some of the programs that they compile.",
        resolution=f"Set SLURM_FACTORY_SPACK_TARGET={here.generic.name}, or build on a machine"
        " with such a CPU.",
    )


def _is_runnable(target: str) -> bool:
    here = host()
    return TARGETS[target] in {here, *here.ancestors}
