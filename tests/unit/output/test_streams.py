"""What every command does where one of its standard streams is closed, full, or read by nobody."""

import json
import os
import re
import subprocess
import sys
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


def codes(endings: list[Ending]) -> dict[str, int]:
    return {ending.command: ending.code for ending in endings}


Endings = dict[str, dict[str, list[Ending]]]


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Endings:
    """How every command ended, by right and wrong usage and by the state of its streams."""
    directory = tmp_path_factory.mktemp("streams")
    publish(stage(directory / "staged"), directory / "cache/builds/24.11")
    cache = {"SLURM_FACTORY_CACHE_DIR": str(directory / "cache"), "HOME": str(directory)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, **cache, "GITHUB_OUTPUT": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        usage: {target: [Ending(*ending) for ending in found] for target, found in targets.items()}
        for usage, targets in json.loads(done.stdout).items()
    }


@pytest.fixture(scope="module")
def usual(endings: Endings) -> list[Ending]:
    """All commands with streams that take everything."""
    return endings["right"][""]


def test_every_command_answers_where_its_streams_take_it(usual: list[Ending]) -> None:
    assert set(codes(usual).values()) == {0}
    assert [ending.command for ending in usual if not ending.out] == []


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
def test_a_command_does_its_work_though_a_stream_was_closed_before_the_start(
    stream: str, usual: list[Ending], endings: Endings
) -> None:
    found = endings["right"][f"closed {stream}"]
    assert codes(found) == codes(usual)
    assert [e.command for e in found if "Traceback" in e.err] == []
    if stream != "stdout":
        assert [timeless(e.out) for e in found] == [timeless(e.out) for e in usual]


def timeless(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("Make "))


def test_an_answer_that_a_full_disk_loses_is_exit_code_7(endings: Endings) -> None:
    found = endings["right"]["full disk"]
    assert codes(found) == {e.command: OutputError.exit_code for e in found}
    for ending in found:
        assert "No space left on device." in ending.err.splitlines()[-2], ending


def test_a_reader_that_has_gone_is_exit_code_141_and_not_a_word(
    endings: Endings, usual: list[Ending]
) -> None:
    found = endings["right"]["closed pipe"]
    assert codes(found) == {e.command: READER_GONE for e in found}
    told = {e.command: len(e.err.splitlines()) for e in usual}
    assert {e.command: len(e.err.splitlines()) for e in found} == told


@pytest.mark.parametrize(
    "target", ["", "closed stderr", "full disk for stderr", "closed pipe for stderr"]
)
def test_wrong_usage_is_exit_code_2_whether_the_message_can_be_written_or_not(
    target: str, endings: Endings
) -> None:
    found = endings["wrong"][target]
    assert set(codes(found).values()) == {2}
    assert [e.command for e in found if re.search("Usage: |Error: |^$", e.err)] == [*codes(found)]
    assert [e.command for e in found if "Traceback" in e.err] == []


def test_what_stands_in_for_a_closed_stream_takes_its_descriptor() -> None:
    code = (
        "import os; from slurm_factory.output.stream import fill_closed_streams;"
        "fill_closed_streams(); fill_closed_streams(); import sys;"
        "print('lost'); print('lost', file=sys.stderr); assert sys.stdin.read() == '';"
        "os._exit(os.open('/dev/null', os.O_RDONLY))"
    )
    shell = f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 3
