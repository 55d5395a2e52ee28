"""The outputs of example commands in the pages, made in a prepared cache directory."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from slurm_factory import main, request
from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.config import Settings
from slurm_factory.package import publish
from slurm_factory.package.manifest import load_manifest

EXAMPLES = Path(__file__).with_name("examples")
MANIFEST = EXAMPLES / "manifest.json"
HOME = "/home/alice"
"""The reader's."""
CACHE = f"{HOME}/.slurm-factory"
OF_SETTINGS = ("SLURM_FACTORY_", "XDG_", "IF_PROJECT_NAME")
"""Beginnings of variables that change settings."""
RECORDED_CACHE = "/srv/slurm-factory"
"""Where they were when docs/record.py ran."""
TODAY = datetime.fromisoformat("2026-11-29T12:00:00+00:00")
SHOWN_ROWS = 6
"""Of a table."""
PRINTED = re.compile(
    r"(<!-- run -->\n```sh\n(?P<command>[^\n]+)\n```\n\n<!-- printed -->\n```text\n).*?(?=^```$)",
    re.MULTILINE | re.DOTALL,
)
RECORDED = re.compile(
    r"(<!-- recorded: (?P<name>\w+) -->\n```text\n).*?(?=^```$)", re.MULTILINE | re.DOTALL
)


class _Clock(datetime):
    """The day after the example was built."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Clock":
        return cls.fromtimestamp(TODAY.timestamp(), tz)


@contextmanager
def prepared_cache() -> Iterator[Path]:
    """A cache directory (host) with the package of the example, without its tarballs."""
    with tempfile.TemporaryDirectory() as home:
        cache = Path(home) / ".slurm-factory"
        make_cache_dir(Settings(cache_dir=cache))
        identity = load_manifest(MANIFEST).identity
        # Without the suffix of patches, as a build does.
        builds = cache / "builds" / identity.version.partition("+")[0]
        builds.mkdir(parents=True)
        shutil.copy(MANIFEST, builds / identity.manifest)
        yield cache


def output_of(command: str, cache: Path) -> str:
    """What a command prints on stdout.

    Args:
        command: As the page has it.
        cache: A prepared cache directory (host).

    Raises:
        RuntimeError: The command fails.
    """
    words = shlex.split(command)
    if words[1] == "deploy":  # It becomes the script that deploys.
        return subprocess.run(
            [sys.executable, "-m", "slurm_factory", *words[1:]],
            env={**os.environ, "HOME": str(cache.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    settings = [name for name in os.environ if name.startswith(OF_SETTINGS)]
    with (
        mock.patch.dict(os.environ, {"HOME": str(cache.parent)}),
        mock.patch.object(main, "datetime", _Clock),
        mock.patch.object(request, "datetime", _Clock),
        # The tarballs are too large to keep.
        mock.patch.object(publish, "problem_with", return_value=""),
    ):
        for name in settings:
            del os.environ[name]
        result = CliRunner().invoke(main.app, words[1:])
    if result.exit_code:
        raise RuntimeError(f"{command}: {result.output}")
    return result.stdout.replace(str(cache.parent), HOME)


def shortened(text: str) -> str:
    """The first lines of each part; long lines stay as they are."""
    parts = []
    for part in text.strip("\n").split("\n\n"):
        lines = [line.rstrip() for line in part.splitlines()]
        if len(lines) > SHOWN_ROWS + 2:
            lines = [*lines[: SHOWN_ROWS + 2], " …"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def with_outputs(page: str) -> str:
    """A page with the outputs of its commands."""
    with prepared_cache() as cache:
        page = PRINTED.sub(
            lambda match: match[1] + shortened(output_of(match["command"], cache)), page
        )
    return RECORDED.sub(lambda match: match[1] + recorded(match["name"]), page)


def recorded(name: str) -> str:
    """What a command printed on a machine with LXD."""
    text = (EXAMPLES / f"{name}.txt").read_text("utf-8")
    return shortened(text.replace(RECORDED_CACHE, CACHE))
