"""Completion as bash does it: an interactive bash on a terminal of its own, and the Tab key."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAMS = str(Path(sys.executable).parent)
SHOW = """slurm-factory() { printf '<%s>' "$@"; echo; }"""
"""Stands for the program when a line is run, and not when it is asked for completions."""
END = "--that-was-all--"


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Descriptor of the terminal of a bash that has the completion script."""
    program = f"{PROGRAMS}/slurm-factory"
    script = subprocess.check_output([program, "--show-completion", "bash"], text=True)
    home = tmp_path_factory.mktemp("home")
    (home / ".inputrc").write_text("set bell-style none\nset enable-bracketed-paste off\n")
    (home / ".bashrc").write_text(f"PS1=\n{script}\n{SHOW}\n")
    own = {"HOME": str(home), "TERM": "dumb", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        ["bash", "--rcfile", str(home / ".bashrc"), "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, **own},
        start_new_session=True,
    ) as process:
        os.close(terminal)
        yield ours
        process.kill()
    os.close(ours)


def typed(bash: int, keys: str) -> list[str]:
    """The arguments that the program is run with after `keys` have been pressed."""
    os.write(bash, f"{keys}\necho {END[:5]}''{END[5:]}\n".encode())
    screen = ""
    with suppress(OSError):
        while f"{END}\r\n" not in screen:
            screen += os.read(bash, 4096).decode()
    lines = [line for line in screen.splitlines() if line.startswith(("<build>", "<verify>"))]
    return lines[-1].strip("<>").split("><")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("keys", "arguments"),
    [
        ("--base deb\t", ["--base", "debian@1"]),
        ("--base debian@\t", ["--base", "debian@1"]),
        ("--base ubuntu@24\t", ["--base", "ubuntu@24.04"]),
        ("--base=ubuntu@24\t", ["--base=ubuntu@24.04"]),
        ("--base=sa\t", ["--base=same"]),
        ("--base debian@12 --deps sy\t", ["--base", "debian@12", "--deps", "system"]),
        ('--additional-variants "+hdf5 ~rea\t', ["--additional-variants", "+hdf5 ~readline"]),
    ],
)
def test_bash_completes_words_that_it_splits_itself(
    bash: int, keys: str, arguments: list[str]
) -> None:
    assert typed(bash, f"slurm-factory build {keys}") == ["build", *arguments]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("keys", "last"),
    [
        ("--on debian@11\t", "debian@11"),
        ("--on ubuntu@24\t", "ubuntu@24.04"),
        ("--on debian@11,ubuntu@24\t", "debian@11,ubuntu@24.04"),
    ],
)
def test_bash_completes_the_last_of_several_distributions(bash: int, keys: str, last: str) -> None:
    assert typed(bash, f"slurm-factory verify x {keys}") == ["verify", "x", "--on", last]
