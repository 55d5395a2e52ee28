"""The settings about Spack: which one, for which CPU, with which configuration."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml
from archspec.cpu import TARGETS, host
from yaml.constructor import ConstructorError

from slurm_factory.config import ENVIRONMENT_PREFIX, Settings
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
(spack.readthedocs.io/en/latest/configuration.html); the others are about Spack's other uses, or
name files that are not in the instance. `mirrors` would be asked with `--offline` too, and its
passwords would be in manifests."""
OVERRIDING = "+-:"
"""Signs at the end of a key by which Spack replaces or extends (same page, "Overriding")."""
OWN_REPOSITORIES = frozenset({SPACK_NAMESPACE, "builtin"})
"""Named in spack.yaml, which is stronger than a site's configuration."""
SPACK_ITSELF = ("$spack/", f"{INSTANCE_SPACK}/", f"{INSTANCE_SPACK_PACKAGES}/")
"""Where an instance has repositories of its own."""


class _Loader(yaml.SafeLoader):
    """Tells where a value is that is not of the kind that its form or tag says."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConstructorError(
                problem="this value cannot be read", problem_mark=node.start_mark
            ) from error


def choose_spack(settings: Settings, architecture: str) -> SpackChoice:
    """What the settings say about Spack.

    Args:
        settings: Of this site.
        architecture: Of this machine, as uname(1) names it; decides about the default target.

    Raises:
        ConfigurationError: The file that `spack_config` names cannot be used, there is no such
            target, or a ref was set for unpacked files.
    """
    if settings.spack_target:
        require_target(settings.spack_target, architecture)
    return SpackChoice(
        refs=SpackRefs(
            url=settings.spack_url,
            ref=settings.spack_ref,
            packages_url=settings.spack_packages_url,
            packages_ref=settings.spack_packages_ref,
        ),
        target=settings.spack_target or default_target(architecture),
        config=(
            load_spack_config(settings.spack_config, settings.cache_dir)
            if settings.spack_config
            else ""
        ),
        packages=settings.spack_base_packages,
        source_mirrors=settings.source_mirrors,
        buildcaches=settings.spack_buildcaches,
        signed=not settings.spack_unsigned_buildcaches,
        ignored_refs=_ignored_refs(settings),
    )


def _ignored_refs(settings: Settings) -> tuple[str, ...]:
    """The refs, as `SpackRefs` names them, of what is unpacked files."""
    spack, packages = unpacked_at(settings.spack_url), unpacked_at(settings.spack_packages_url)
    if spack:
        _require_no_ref("spack_ref", settings.spack_ref, spack, spack_version(spack))
    if packages:
        _require_no_ref("spack_packages_ref", settings.spack_packages_ref, packages)
    return ("ref",) * (spack is not None) + ("packages_ref",) * (packages is not None)


def _require_no_ref(setting: str, ref: str, directory: Path, version: str = "") -> None:
    """Refuse a ref that somebody set for a directory (host) where nothing can be looked up by it.

    That of the version which the files themselves tell is true, and the default asks for nothing.
    """
    if ref in {Settings.model_fields[setting].default, f"v{version}"}:
        return
    variable = f"{ENVIRONMENT_PREFIX}{setting.upper()}"
    raise ConfigurationError(
        f"{variable} has no meaning for unpacked files, and is {ref}.",
        details=f"{directory} is Spack {version}, and no git repository."
        if version
        else f"{directory} is no git repository.",
        resolution=f"Unset {variable}, or name a git repository.",
    )


def load_spack_config(path: Path, cache_dir: Path) -> str:
    """Text of the user's own configuration of Spack.

    Args:
        path: Of the file (host).
        cache_dir: What instances see of this machine's directories (host).

    Returns:
        The text as it is, for Spack to include.

    Raises:
        ConfigurationError: It cannot be read, is not YAML, or is no configuration of Spack.
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
            path, "is no configuration of Spack", "It is not a mapping with sections at the top."
        )
    _require_sections(path, document)
    _require_visible_repositories(path, document, cache_dir)
    return text


def cloned_repositories(config: str) -> tuple[str, ...]:
    """Names of the repositories of recipes that Spack clones, in a site's configuration.

    Args:
        config: As `load_spack_config` returns it, or empty.
    """
    repositories = _repositories(yaml.safe_load(config) or {})
    return tuple(name for name, value in repositories if isinstance(value, dict))


def _repositories(document: dict[object, object]) -> Iterator[tuple[str, object]]:
    """Name of each repository and where it is; not ours, which no site can replace."""
    for section in _sections(document, "repos"):
        if isinstance(section, dict):
            named = ((str(name).rstrip(OVERRIDING), value) for name, value in section.items())
            yield from ((name, value) for name, value in named if name not in OWN_REPOSITORIES)


def _sections(document: dict[object, object], name: str) -> list[object]:
    return [section for key, section in document.items() if str(key).rstrip(OVERRIDING) == name]


def _require_visible_repositories(
    path: Path, document: dict[object, object], cache_dir: Path
) -> None:
    """Spack only warns of a repository that is not there, and decides without its recipes."""
    if any(isinstance(section, list) for section in _sections(document, "repos")):
        raise _refusal(
            path, "has a list of repositories", "Spack 1.1 wants names: repos: {NAME: DIRECTORY}."
        )
    for name, value in _repositories(document):
        directory = value if isinstance(value, str) else ""
        if not isinstance(value, dict) and not _is_visible(directory, cache_dir):
            raise _refusal(
                path,
                f"names a repository that no instance sees: {quoted(name)}",
                f"Instances see {cache_dir} as {INSTANCE_CACHE}: a directory with repo.yaml in it"
                " has to lie there, and to be named by that path.",
            )


def _is_visible(directory: str, cache_dir: Path) -> bool:
    if directory.startswith(SPACK_ITSELF):
        return True
    try:
        below = PurePosixPath(directory).relative_to(INSTANCE_CACHE)
        return ".." not in below.parts and (cache_dir / below / "repo.yaml").is_file()
    except (ValueError, OSError):
        return False


def _require_sections(path: Path, document: dict[object, object]) -> None:
    for key in document:
        name = str(key).rstrip(OVERRIDING)
        if name == "spack":
            raise _refusal(
                path,
                "is an environment of Spack, not a configuration",
                "What stands below `spack:` belongs at the top; specs and views are decided here.",
            )
        if name == "mirrors":
            raise _refusal(
                path,
                "names mirrors, which are settings of their own",
                "SLURM_FACTORY_SOURCE_MIRRORS takes those of sources, and"
                " SLURM_FACTORY_SPACK_BUILDCACHES build caches.",
            )
        if name not in SECTIONS:
            raise _refusal(
                path,
                f"has a section that a build does not take: {quoted(name)}",
                did_you_mean(name, SECTIONS, f"It takes {', '.join(SECTIONS)}."),
            )


def _where(error: yaml.YAMLError) -> str:
    """Line and column, both from one, and what is wrong there."""
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
    """Refuse a target that no machine of this architecture is.

    Args:
        target: As the setting has it.
        architecture: Of this machine, as uname(1) names it.

    Raises:
        ConfigurationError: archspec does not know it, or it is of another architecture.
    """
    names = [name for name, cpu in TARGETS.items() if cpu.family.name == architecture]
    if target in names:
        return
    usable = [name for name in names if _is_runnable(name)] or names
    levels = ", ".join(sorted(name for name in usable if TARGETS[name].vendor == "generic"))
    raise ConfigurationError(
        f"There is no CPU target {quoted(target)} of {architecture}.",
        details=did_you_mean(target, usable, f"There are {levels}, and names of CPUs."),
        resolution="Correct SLURM_FACTORY_SPACK_TARGET, or unset it.",
    )


def require_runnable(target: str) -> None:
    """Refuse a target whose programs this machine's CPU cannot run: Spack finds no way to build it.

    Raises:
        ConfigurationError: It cannot; names the best level that it can.
    """
    here = host()
    if target not in TARGETS or _is_runnable(target):
        return
    raise ConfigurationError(
        f"This machine's CPU cannot run what is built for {target}.",
        details=f"It is of the kind {here.name}, and builds run some of what they have built.",
        resolution=f"Set SLURM_FACTORY_SPACK_TARGET={here.generic.name}, or build on a machine that"
        " has such a CPU.",
    )


def _is_runnable(target: str) -> bool:
    here = host()
    return TARGETS[target] in {here, *here.ancestors}
