"""The fields of the JSON documents, from the classes that write them, for docs/json.md."""

import ast
import dataclasses
import inspect
import re
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from slurm_factory.clean import CleanPlan, Removal
from slurm_factory.fetch.trackers import Finding
from slurm_factory.findings import Library
from slurm_factory.host import checks
from slurm_factory.host.setup import SetupResult
from slurm_factory.host.setup_steps import SetupStep
from slurm_factory.package import manifest, verification
from slurm_factory.plan.advisories import Advisory
from slurm_factory.plan.releases import Backports, Release
from slurm_factory.relocate.hardening import Share
from slurm_factory.stores.index import StoredPackage

TEXTS = Path(__file__).with_name("documents.toml")
MANIFEST: tuple[type, ...] = (
    manifest.Manifest,
    manifest.PackageIdentity,
    manifest.Source,
    manifest.AppliedPatch,
    manifest.SecurityStatus,
    manifest.KnownAdvisory,
    manifest.BundledFile,
    manifest.HostRequirement,
    manifest.Step,
    Share,
    manifest.Limit,
    manifest.SpackBuild,
    manifest.BuildCacheUse,
    manifest.SpackPackage,
    manifest.Verified,
    manifest.File,
)
VERIFICATION: tuple[type, ...] = (
    verification.Verification,
    verification.Trial,
    verification.Place,
    verification.Upgrade,
    verification.Suite,
    verification.Check,
)
ANSWERS: tuple[type, ...] = (
    Release,
    Backports,
    StoredPackage,
    Advisory,
    Library,
    Finding,
    SetupResult,
    SetupStep,
    checks.Check,
    CleanPlan,
    Removal,
)
NAMES: dict[Any, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    date: "date",
    datetime: "time",
    Path: "path",
    type(None): "null",
    Any: "any value",
    AwareDatetime: "time",
}
Texts = Mapping[str, Any]
ATTRIBUTE = re.compile(r"^ +(\w+): (.+?)(?=\n +\w+: |\Z)", re.MULTILINE | re.DOTALL)
"""A field in the docstring of a class."""


def texts() -> Texts:
    """The part of the descriptions that no class has."""
    return tomllib.loads(TEXTS.read_text("utf-8"))


def rows_of(cls: type, meanings: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, type and meaning of each field of a record.

    Args:
        cls: A model of pydantic, or a dataclass.
        meanings: By class and field, for fields that do not say it themselves.

    Raises:
        ValueError: Nothing says what a field means.
    """
    own = documented(cls)
    names = {**vars(inspect.getmodule(cls)), "Finding": Finding}
    hints = typing.get_type_hints(cls, names, include_extras=True)
    rows = []
    for name in fields_of(cls):
        text = meanings.get(f"{cls.__name__}.{name}") or own.get(name)
        if not text:
            raise ValueError(f"documents.toml does not say what {cls.__name__}.{name} means")
        rows.append((f"`{name}`", type_name(hints[name]), text))
    return rows


def fields_of(cls: type) -> Iterable[str]:
    """Names of the fields of a record."""
    if issubclass(cls, BaseModel):
        return cls.model_fields
    return [field.name for field in dataclasses.fields(cast("Any", cls))]


def documented(cls: type) -> dict[str, str]:
    """What the class says of its fields: below each, or in its own docstring."""
    found = dict(_below(cls))
    _, _, attributes = (cls.__doc__ or "").partition("Attributes:\n")
    for name, text in ATTRIBUTE.findall(attributes):
        found[name] = _sentence(text)
    return found


def _below(cls: type) -> Iterator[tuple[str, str]]:
    [node] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)  # noqa: S101  # for mypy
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            value, target = text.value, field.target
            if isinstance(value, ast.Constant) and isinstance(target, ast.Name):
                yield target.id, _sentence(str(value.value))


def _sentence(text: str) -> str:
    return " ".join(text.split())


def type_name(hint: Any) -> str:
    """A type as readers of JSON know it."""
    origin, arguments = get_origin(hint), get_args(hint)
    names = {
        Annotated: lambda: type_name(arguments[0]),
        Literal: lambda: " or ".join(f"`{value}`".lower() for value in arguments),
        Union: lambda: " or ".join(dict.fromkeys(map(type_name, arguments))),
        types.UnionType: lambda: " or ".join(dict.fromkeys(map(type_name, arguments))),
        tuple: lambda: f"list of {type_name(arguments[0])}",
    }
    if origin is None:
        return NAMES.get(hint) or _class_name(hint)
    return names[origin]() if origin in names else "object"


def _class_name(hint: Any) -> str:
    if issubclass(hint, Enum):
        return " or ".join(f"`{each.value}`" for each in hint)
    return f"[{title(hint)}](#{anchor(hint)})"


def anchor(cls: type) -> str:
    """Anchor of the heading of a record."""
    return title(cls).lower().replace(" ", "-")


def title(cls: type) -> str:
    """Heading of a record: its class, of which `Check` has two."""
    return "HostCheck" if cls is checks.Check else cls.__name__
