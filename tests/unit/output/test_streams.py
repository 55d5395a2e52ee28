"""What every command does where one of its standard streams is closed, full, or read by nobody."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from package_samples import stage
from paths import PROGRAMS

from slurm_factory.exceptions import OutputError
from slurm_factory.output.stdout import READER_GONE
from slurm_factory.package.publish import publish

SCRIPT = PROGRAMS / "every_command.py"


class Ending(NamedTuple):
    """How a command ended."""

    command: str
    code: int
    out: str
    err: str


def run_all(target: str, cache: Path, *which: str) -> list[Ending]:
    """Every command with its streams as `target` says; `which` may be "wrong" (usage)."""
    own = {"SLURM_FACTORY_CACHE_DIR": str(cache), "HOME": str(cache.parent), "GITHUB_OUTPUT": ""}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), target, *which],
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ending(*ending) for ending in json.loads(done.stdout)]


def codes(endings: list[Ending]) -> dict[str, int]:
    return {ending.command: ending.code for ending in endings}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory with one finished build."""
    directory = tmp_path_factory.mktemp("streams")
    publish(stage(directory / "staged"), directory / "cache/builds/24.11")
    return directory / "cache"


@pytest.fixture(scope="module")
def usual(cache: Path) -> list[Ending]:
    """All commands with streams that take everything."""
    return run_all("", cache)


def test_every_command_answers_where_its_streams_take_it(usual: list[Ending]) -> None:
    assert set(codes(usual).values()) == {0}
    assert [ending.command for ending in usual if not ending.out] == []


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
def test_a_command_does_its_work_though_a_stream_was_closed_before_the_start(
    stream: str, usual: list[Ending], cache: Path
) -> None:
    endings = run_all(f"closed {stream}", cache)
    assert codes(endings) == codes(usual)
    assert [e.command for e in endings if "Traceback" in e.err] == []
    if stream != "stdout":
        assert [timeless(e.out) for e in endings] == [timeless(e.out) for e in usual]


def timeless(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("Make "))


def test_an_answer_that_a_full_disk_loses_is_exit_code_7(cache: Path) -> None:
    endings = run_all("full disk", cache)
    assert codes(endings) == {e.command: OutputError.exit_code for e in endings}
    for ending in endings:
        assert "No space left on device." in ending.err.splitlines()[-2], ending


def test_a_reader_that_has_gone_is_exit_code_141_and_not_a_word(
    cache: Path, usual: list[Ending]
) -> None:
    endings = run_all("closed pipe", cache)
    assert codes(endings) == {e.command: READER_GONE for e in endings}
    told = {e.command: len(e.err.splitlines()) for e in usual}
    assert {e.command: len(e.err.splitlines()) for e in endings} == told


@pytest.mark.parametrize(
    "target", ["", "closed stderr", "full disk for stderr", "closed pipe for stderr"]
)
def test_wrong_usage_is_exit_code_2_whether_the_message_can_be_written_or_not(
    target: str, cache: Path
) -> None:
    endings = run_all(target, cache, "wrong")
    assert set(codes(endings).values()) == {2}
    assert [e.command for e in endings if re.search("Usage: |Error: |^$", e.err)] == [
        *codes(endings)
    ]
    assert [e.command for e in endings if "Traceback" in e.err] == []


def test_what_stands_in_for_a_closed_stream_takes_its_descriptor() -> None:
    code = (
        "import os; from slurm_factory.output.stream import fill_closed_streams;"
        "fill_closed_streams(); fill_closed_streams(); import sys;"
        "print('lost'); print('lost', file=sys.stderr); assert sys.stdin.read() == '';"
        "os._exit(os.open('/dev/null', os.O_RDONLY))"
    )
    shell = f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 3
