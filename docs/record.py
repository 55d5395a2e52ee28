"""Record the outputs in docs/examples that need a machine with LXD, and the picture of a build.

It runs a real build, which takes some minutes, in the cache directory of the settings. Set
SLURM_FACTORY_CACHE_DIR to docs/examples.py's RECORDED_CACHE, which the pages do not show.

`--picture TYPESCRIPT` only draws the picture, from what a terminal of 100 columns got elsewhere.
"""

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from slurm_factory.config import Settings

EXAMPLES = Path(__file__).with_name("examples")
PLAN = "--slurm-version 24.11.5 --deps system --base same"
STEM = "slurm-24.11.5+deb13u1-debian-12-system"
PICTURE = f"slurm-factory build {PLAN}"
COMMANDS = {
    "build": f"slurm-factory build {PLAN}",
    "verify": f"slurm-factory verify {STEM} --on debian@13",
    "deploy": f"slurm-factory deploy {STEM} --dry-run",
    "prefetch": f"slurm-factory prefetch {PLAN}",
    "setup": "slurm-factory setup --check",
    "doctor": "slurm-factory doctor",
    "clean": "slurm-factory clean --caches --dry-run",
}
COLUMNS, LINES = 100, 60
LARGE = ("base_record",)
"""Parts of the manifest that no example prints."""


def typescript_of(command: str) -> bytes:
    """What a terminal gets from a command."""
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        os.execvp("slurm-factory", shlex.split(command))  # noqa: S606  # in a pty of its own
    chunks = []
    while chunk := _read(terminal):
        chunks.append(chunk)
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(f"{command} ended with {code}")
    return b"".join(chunks)


def shown_at_the_end(typescript: bytes) -> Text:
    """What the terminal shows when all is over, with what has scrolled out of it."""
    screen = pyte.HistoryScreen(COLUMNS, LINES, history=10_000)
    pyte.ByteStream(screen).feed(typescript)
    rows = [*screen.history.top, *(screen.buffer[number] for number in range(LINES))]
    text = Text()
    for row in rows:
        for column in range(COLUMNS):
            cell = row[column]
            color = None if cell.fg == "default" else cell.fg.replace("brown", "yellow")
            text.append(cell.data, Style(color=color, bold=cell.bold or None))
        text.append("\n")
    lines = text.split("\n")
    for line in lines:
        line.rstrip()
    while lines and not lines[-1].plain:
        lines.pop()
    return Text("\n").join(lines)


def _read(terminal: int) -> bytes:
    """The next output; none when the program has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def write_picture(shown: Text, path: Path) -> None:
    """Write what a terminal shows as a picture (host) that needs no other file."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {PICTURE}", style="bold"))
        console.print(shown)
        svg = console.export_svg(title="slurm-factory", unique_id="build")
    # rich names a font on another host.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    path.write_text("".join(f"{line.rstrip()}\n" for line in svg.splitlines()), "utf-8")


def output_of(command: str) -> str:
    """What a command prints, messages and results."""
    done = subprocess.run(
        shlex.split(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def main() -> None:
    """Record all."""
    if sys.argv[1:2] == ["--picture"]:
        write_picture(shown_at_the_end(Path(sys.argv[2]).read_bytes()), EXAMPLES / "build.svg")
        return
    settings = Settings()
    manifest = settings.builds_dir / "24.11.5" / f"{STEM}-manifest.json"
    subprocess.run(shlex.split(COMMANDS["build"]), check=True)  # With the base it needs.
    for directory in ("ccache", "configure", "builds"):
        shutil.rmtree(settings.cache_dir / directory)
    write_picture(shown_at_the_end(typescript_of(PICTURE)), EXAMPLES / "build.svg")
    for name, command in COMMANDS.items():
        (EXAMPLES / f"{name}.txt").write_text(output_of(command), "utf-8")
    document = json.loads(manifest.read_text("utf-8"))
    document |= {name: {} for name in LARGE}
    kept = EXAMPLES / "manifest.json"
    kept.write_text(f"{json.dumps(document, indent=1, ensure_ascii=False)}\n", "utf-8")


if __name__ == "__main__":
    main()
