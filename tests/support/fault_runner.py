"""Injects one fault into a build, and looks at what is lost, left and said, then and at the next.

A fault is one of fault_cases.py.
"""

import hashlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fault_tools import MINIMAL, Site, Terminal, usable_in, wait_until
from private_lxd import PrivateLXD

from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.instances.lxc import KEPT_KEY, list_instances
from slurm_factory.package.publish import find_artifacts

FORCED = (*MINIMAL, "--force")
ERRORS: list[type[SlurmFactoryError]] = [SlurmFactoryError, *SlurmFactoryError.__subclasses__()]
OURS = frozenset({0, -signal.SIGKILL, *(error.exit_code for error in ERRORS)})
"""Exit statuses that the documentation explains, and that of SIGKILL."""
HIDDEN = (
    (re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-z-]+-[0-9a-f]{6}"), "…"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "…"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://mirror"),
    (re.compile(r"\b\d+(\.\d+)? (?=[KMG]i?B)"), "N "),
)
"""What differs from run to run."""


LAUNCH = "Launch"
IN_INSTANCE = ("Unpack and patch", "Configure", "Compile", "Install and strip")
"""Steps that run commands in the instance."""


def has_output(site: Site, step: str) -> bool:
    """Whether a command in the instance has said something in this step."""
    newest = max((site.cache / "logs").glob("*/build.log"), key=lambda log: log.stat().st_mtime)
    return bool(newest.read_text().partition(f"Step: {step}\n")[2])


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and all that it said."""

    code: int
    text: str

    @classmethod
    def of(cls, done: subprocess.CompletedProcess[str]) -> Self:
        """The end of a command without a terminal."""
        return cls(done.returncode, done.stdout + done.stderr)

    @property
    def messages(self) -> list[str]:
        """First lines of its errors."""
        return [line for line in self._lines if line.startswith("Error: ")]

    @property
    def said(self) -> str:
        """The first line of its error, or of its first warning or note."""
        notes = (match.group(1) for line in self._lines if (match := NOTE.match(line)))
        return next(iter(self.messages), "") or next(notes, "")

    @property
    def _lines(self) -> list[str]:
        # The terminal shows the key where the cursor is.
        return self.text.replace("\r", "").replace("^C", "").splitlines()


NOTE = re.compile(
    r"\[ *[0-9.]+s\] "
    r"(Warning: (?!Slurm [0-9]).*|(Deleted|Waiting|Launching|No image|The instance).*)"
)
"""Without the one of advisories, which every build shows."""


@dataclass
class Scene:
    """Where one fault is injected.

    Attributes:
        site: What the build uses; a case may take another one.
        lxd: The LXD of our own, if there is one.
        scratch: An empty directory (host).
        undo: What is undone before the next command.
        damaged: What the case itself has damaged: names in `holdings`.
        moved: Whether the base instance of before is not used any more, on purpose.
        command: The build, and the next command.
    """

    site: Site
    lxd: PrivateLXD | None
    scratch: Path
    undo: ExitStack = field(default_factory=ExitStack)
    later: ExitStack = field(default_factory=ExitStack)
    damaged: set[str] = field(default_factory=set)
    moved: bool = False
    command: tuple[str, ...] = FORCED

    @contextmanager
    def build_at(self, step: str) -> Iterator[Terminal]:
        """The build, which stands still in a step while the block runs; its instance does not.

        A step that works in the instance has begun there, and LXD has begun to make the instance.
        Others have only begun.
        """
        with Terminal(self.site, *self.command) as terminal:
            terminal.wait_for(f"{step} …")
            if step in IN_INSTANCE:
                wait_until(lambda: has_output(self.site, step))
            elif step == LAUNCH:
                wait_until(lambda: bool(self.site.instances()))
            terminal.process.send_signal(signal.SIGSTOP)
            assert f"{step} done" not in terminal.text
            yield terminal
            terminal.process.kill()

    def run(self) -> Ended:
        """Run the build to its end."""
        with Terminal(self.site, *self.command) as terminal:
            return finish(terminal)


def resume(terminal: Terminal) -> None:
    """Let a build that stands still go on."""
    terminal.process.send_signal(signal.SIGCONT)


def finish(terminal: Terminal) -> Ended:
    """Let it go on if it stands still, and wait for its end."""
    resume(terminal)
    code = terminal.finish()
    return Ended(code, terminal.text)


@dataclass(frozen=True)
class Case:
    """A fault at a step of a build.

    Attributes:
        fault: What happens.
        step: When; a step of the build, or words.
        inject: Makes it happen; returns how the build ended.
        codes: Exit statuses with which it may end.
    """

    fault: str
    step: str
    inject: Callable[[Scene], Ended]
    codes: frozenset[int]

    @property
    def key(self) -> str:
        return f"{self.fault}: {self.step}"


@dataclass
class Row:
    """What has happened.

    Attributes:
        code: Exit status of the build.
        said: First line of what it said.
        lost: What is not there any more, or not whole, at once and after the next command.
        left: What was left at once.
        next_code: Exit status of the next command.
        next_said: First line of what that said.
        left_then: What was left then.
        wrong: Why the row is not good; empty: it is.
        output: What both said last, if it is not good.
    """

    fault: str
    step: str
    code: int = 0
    said: str = ""
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    next_code: int | None = None
    next_said: str = ""
    left_then: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    output: str = ""


def run_case(case: Case, scene: Scene, *, with_next: bool = True) -> Row:
    """Inject a fault, look, run the next command, and look again.

    Args:
        case: The fault.
        scene: Has a finished package, and warm caches.
        with_next: Whether the next command runs.
    """
    row = Row(case.fault, case.step)
    before = holdings(scene.site)
    with scene.later:
        try:
            with scene.undo:
                ended = case.inject(scene)
        except Exception as error:  # noqa: BLE001  # the other rows do not depend on it
            row.wrong.append(f"the fault could not be injected: {str(error)[-300:]}")
            return row
        site = scene.site
        row.code, row.said = ended.code, _shown(ended.said, site)
        row.wrong += _wrong_words(ended)
        if ended.code not in case.codes:
            row.wrong.append(f"unexpected exit status {ended.code}")
        row.output = ended.text[-MOST:]
        if scene.moved:
            del before["the base instance"]
        row.left = leftovers(site)
        row.lost = _lost(before, holdings(site), scene.damaged)
        if with_next:
            _run_next(row, scene, before, ended)
    if row.lost:
        row.wrong.append(f"lost: {', '.join(row.lost)}")
    if not row.wrong:
        row.output = ""
    return row


def _run_next(row: Row, scene: Scene, before: Mapping[str, frozenset[str]], ended: Ended) -> None:
    then = scene.run()
    row.output = f"{ended.text[-MOST:]}\n---\n{then.text[-MOST:]}".replace("\r", "")
    site = scene.site
    row.next_code, row.next_said = then.code, _shown(then.said, site)
    if then.code != 0:
        row.wrong.append(f"the next build failed: {row.next_said}")
    row.wrong += _wrong_words(then)
    row.left_then = leftovers(site)
    row.lost += _lost(before, holdings(site), set())
    remaining = row.left_then
    if KEPT in remaining and "The instance is kept" in ended.text:
        # On purpose, to be looked into: clean removes it.
        cleaned = site.run("clean", "--yes")
        row.wrong += [] if cleaned.returncode == 0 else ["clean failed"]
        remaining = leftovers(site)
    if remaining:
        row.wrong.append(f"left after the next command: {', '.join(remaining)}")


MOST = 3000
"""Characters of output that are kept."""
KEPT = "an instance, kept on purpose"


def _wrong_words(ended: Ended) -> list[str]:
    """What is wrong with the way in which a command ended."""
    wrong = []
    if "Traceback" in ended.text:
        wrong.append("a traceback")
    if ended.code not in OURS:
        wrong.append(f"exit status {ended.code}")
    expected = 0 if ended.code in {0, -signal.SIGKILL} else 1
    if len(ended.messages) != expected:
        wrong.append(f"{len(ended.messages)} messages")
    return wrong


def _shown(said: str, site: Site) -> str:
    text = said.removeprefix("Error: ").replace(str(site.cache), "CACHE")
    text = text.replace(site.project, "PROJECT")
    for pattern, shown in HIDDEN:
        text = pattern.sub(shown, text)
    return text


def _lost(
    before: Mapping[str, frozenset[str]], now: Mapping[str, frozenset[str]], damaged: set[str]
) -> list[str]:
    gone = [name for name, parts in before.items() if not parts <= now.get(name, frozenset())]
    return [name for name in gone if name not in damaged]


def holdings(site: Site) -> dict[str, frozenset[str]]:
    """What a site has and nothing may take from it: each thing with its parts."""
    found = {
        f"the package {published.path.name.removesuffix('-manifest.json')}": frozenset(
            checksum(path) for path in sorted(published.path.parent.glob(f"{stem}*.tar.gz"))
        )
        for published in find_artifacts(site.cache / "builds")
        if not published.problem
        for stem in [published.path.name.removesuffix("manifest.json")]
    }
    created = {entry["name"]: entry["created_at"] for entry in list_instances(site.project)}
    sources = site.cache / "spack-sourcecache" / "_source-cache"
    found["the sources"] = frozenset(checksum(p) for p in sources.rglob("*") if p.is_file())
    ccache = site.cache / "ccache"
    found["the compiler cache"] = frozenset(
        str(path.relative_to(ccache)) for path in ccache.rglob("*") if path.name[-1] in "RM"
    )
    # One that was made again has the same name.
    found["the base instance"] = frozenset(
        f"{base.name} of {created[base.name]}" for base in usable_in(site.project)
    )
    return found


def checksum(path: Path) -> str:
    """Of a file (host)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(site: Site) -> list[str]:
    """What builds have left that is neither a package nor a cache."""
    return [*_instances(site), *_files(site)]


def _instances(site: Site) -> Iterator[str]:
    usable = {base.name for base in usable_in(site.project)}
    for entry in list_instances(site.project):
        if entry["name"] in usable:
            continue
        if entry["name"].startswith("base-"):
            yield "an unfinished base instance"
        elif KEPT_KEY in entry["config"]:
            yield KEPT
        else:
            yield f"a {entry['status'].lower()} instance"


def _files(site: Site) -> Iterator[str]:
    staged = list((site.cache / "work").glob("*"))
    if any(path.is_dir() for path in staged):
        yield "staged files"
    elif staged:
        yield "a lock file"
    builds = site.cache / "builds"
    if any(builds.glob("*/.*")):
        yield "a half-published package"
    ours = {
        published.path.name.removesuffix("-manifest.json") for published in find_artifacts(builds)
    }
    names = (path.name for path in builds.glob("*/[!.]*"))
    if any(not name.startswith(tuple(ours)) for name in names):
        yield "a part of a package"
    if any((site.cache / "images").glob("image-*")):
        yield "an unfinished image"
    if any((site.cache / "spack-sourcecache" / ".partial").glob("*.part")):
        yield "a part of a download"
