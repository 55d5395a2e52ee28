"""The Spack environment of a plan. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import yaml
from jinja2 import Environment, StrictUndefined

from slurm_factory import resources
from slurm_factory.config import BUILDCACHE, SOURCE_CACHE
from slurm_factory.constants import (
    INSTANCE_BUILD,
    INSTANCE_BUILDCACHES,
    INSTANCE_CACHE,
    INSTANCE_PACKAGES,
    INSTANCE_PROJECT,
    INSTANCE_SPACK_PACKAGES,
    INSTANCE_STORE,
    INSTANCE_VIEW,
    SPACK_NAMESPACE,
)
from slurm_factory.plan.base_setup import INSTANCE_INDEX
from slurm_factory.plan.plan import SPACK_REPOSITORY, BuildPlan, SpackChoice

TEMPLATE = "spack.yaml.j2"

SPACK_YAML: Final = "spack.yaml"
EXTERNALS_YAML: Final = "externals.yaml"
"""Externals of the base from its record; beside spack.yaml."""
SITE_YAML: Final = "site.yaml"
"""The user's own configuration of Spack, if any; beside spack.yaml."""
LOCAL_BUILDCACHE: Final = "local"
"""Name of the build cache of this machine."""
SITE_BUILDCACHE: Final = "site"
"""Name of that for packages by other recipes than the default ones."""
OWN_PACKAGES: Final = "made-here"
"""Name of the build cache in the instance, from which this program takes new packages."""


@dataclass(frozen=True)
class _Mirror:
    """A Spack mirror for sources or binary packages."""

    name: str
    url: str
    binary: bool = False
    signed: bool = True
    autopush: bool = False


def generate_yaml_string(plan: BuildPlan) -> str:
    """The spack.yaml of `plan`, a plan for the Spack recipe.

    It contains only paths of the instance. Its included files are beside it in `INSTANCE_PROJECT`;
    earlier ones take precedence over later ones (spack.readthedocs.io, "include.yaml").
    """
    spack = plan.spack
    if spack is None:
        raise ValueError("only a plan for the Spack recipe has a Spack environment")
    # The output is YAML, not HTML: every expression of the template is quoted for YAML.
    environment = Environment(  # noqa: S701
        undefined=StrictUndefined,
        finalize=_quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(resources.template(TEMPLATE)).render(
        roots=plan.roots,
        include=[*([SITE_YAML] if spack.config else []), EXTERNALS_YAML],
        namespace=SPACK_NAMESPACE,
        repository=INSTANCE_PROJECT / SPACK_REPOSITORY / SPACK_NAMESPACE,
        builtin=INSTANCE_SPACK_PACKAGES / "repos" / "spack_repo" / "builtin",
        mirrors=list(_mirrors(spack)),
        view=INSTANCE_VIEW,
        collected=["munge", *(_name(root) for root in plan.roots)],
        store=INSTANCE_STORE,
        stage=INSTANCE_BUILD / "spack-stage",
        source_cache=INSTANCE_BUILD / "spack-sources",
        misc_cache=INSTANCE_INDEX,
        target=spack.target,
        flags=" ".join(plan.compiler.flags),
    )


def _mirrors(spack: SpackChoice) -> Iterator[_Mirror]:
    """Local mirrors, then those of the settings, in the order in which Spack uses them.

    The build caches need no signatures: no instance can write to them. For sources, a file URL
    means a directory of this machine, not of the instance: slurm-factory itself fetches from it
    first.
    """
    yield _Mirror("sources", f"file://{INSTANCE_CACHE / SOURCE_CACHE}")
    for name in spack.local_buildcaches:
        cache = f"file://{INSTANCE_CACHE / name}"
        shown = LOCAL_BUILDCACHE if name == BUILDCACHE else SITE_BUILDCACHE
        yield _Mirror(shown, cache, binary=True, signed=False)
    made = f"file://{INSTANCE_PACKAGES}"
    yield _Mirror(OWN_PACKAGES, made, binary=True, signed=False, autopush=True)
    remote = [url for url in spack.source_mirrors if not url.startswith("file:")]
    for number, url in enumerate(remote, start=1):
        yield _Mirror(f"sources-{number}", url)
    # This machine has checked their signatures.
    for number, name in enumerate(spack.remote_buildcaches, start=1):
        url = f"file://{INSTANCE_BUILDCACHES / name}"
        yield _Mirror(f"binaries-{number}", url, binary=True, signed=False)


def _name(spec: str) -> str:
    """Name of the package in `spec`."""
    return re.split(r"[^a-z0-9-]", spec, maxsplit=1)[0]


def _quoted(value: str | bool | PurePosixPath) -> str:
    """A YAML scalar on one line and in ASCII, for any text."""
    if isinstance(value, bool):
        return json.dumps(value)
    quoted: str = yaml.safe_dump(str(value), default_style='"', width=float("inf"))
    return quoted.rstrip("\n")
