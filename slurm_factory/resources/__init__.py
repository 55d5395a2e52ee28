"""Access to the data, templates and scripts of the package."""

import json
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

_ROOT = files(__name__)


def load_toml(name: str) -> dict[str, Any]:
    """Content of the TOML data file `name`."""
    return tomllib.loads(_ROOT.joinpath(name).read_text("utf-8"))


def load_json(name: str) -> Any:
    """Content of the JSON data file `name`."""
    return json.loads(_ROOT.joinpath(name).read_text("utf-8"))


def template(name: str) -> str:
    """Text of the Jinja template `name`."""
    return _ROOT.joinpath("templates", name).read_text("utf-8")


def script(name: str) -> str:
    """Text of the shell script `name`, to run in an instance."""
    return _ROOT.joinpath("scripts", name).read_text("utf-8")


def sysroot_file(name: str) -> str:
    """Text of the file `name` of a sysroot."""
    return _ROOT.joinpath("sysroot", name).read_text("utf-8")


def load_verify_toml(name: str) -> dict[str, Any]:
    """Content of the TOML data file `name` for verifying packages."""
    return tomllib.loads(verify_file(name))


def verify_file(name: str) -> str:
    """Text of the file `name` for verifying packages: a script, or the source of a program."""
    return _ROOT.joinpath("verify", name).read_text("utf-8")


def deploy_file(name: str) -> str:
    """Text of the file `name` for deploying packages."""
    return _ROOT.joinpath("deploy", name).read_text("utf-8")


def deploy_files() -> tuple[str, ...]:
    """Names of the files for deploying packages."""
    root = _ROOT.joinpath("deploy")
    units = (f"systemd/{entry.name}" for entry in root.joinpath("systemd").iterdir())
    return tuple(sorted([*units, *(entry.name for entry in root.iterdir() if entry.is_file())]))


def deploy_script() -> Path:
    """Path (host) of the script that deploys packages."""
    return Path(str(_ROOT.joinpath("deploy", "deploy.sh")))


def host_script(name: str) -> Path:
    """Path (host) of the script `name`, for programs of this machine."""
    return Path(str(_ROOT.joinpath("scripts", name)))


def scripts() -> tuple[str, ...]:
    """Names of the scripts of the recipes."""
    names = (entry.name for entry in _ROOT.joinpath("scripts").iterdir())
    return tuple(sorted(name for name in names if not name.startswith("host-")))


def patches_dir() -> Traversable | Path:
    """Directory of the source patches: in the wheel, or beside the package in a checkout."""
    shipped = _ROOT.joinpath("patches")
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "patches"
