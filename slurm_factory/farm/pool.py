"""Runs the children of a matrix: as many at once as there is room for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from slurm_factory.exceptions import InterruptedBuildError, LXDError, SlurmFactoryError
from slurm_factory.farm.children import Child, Event, Result, State, start_child
from slurm_factory.output.stdout import describe
from slurm_factory.util.signals import HELD

if TYPE_CHECKING:
    from slurm_factory.farm.schedule import Schedule, Task

INTERVAL: Final = 0.2
"""Seconds between two looks at the children."""
AGAIN: Final = 2.0
"""Seconds until the next look whether cells can succeed."""
GRACE: Final = 120.0
"""Seconds in which a child cleans up before it is killed."""
ATTEMPTS: Final = 3
"""So often a cell is started whose machine was lost."""
LOST: Final = frozenset({"MemberLostError"})
"""Errors after which a cell is started again: nothing is wrong with the cell itself."""
PACKAGES: Final = "packages "
BASE: Final = "base "
"""Beginnings of the names of what cells share."""


class Watcher:
    """Sees what happens; the matrix shows it."""

    def began(self, child: Child) -> None:
        """A child has begun."""

    def ended(self, name: str, result: Result) -> None:
        """A cell has ended for good."""

    def again(self, name: str, result: Result) -> None:
        """A cell has ended in vain and will be started again."""

    def look(self, pool: Pool) -> None:
        """Time has passed."""

    def interrupted(self, *, hard: bool) -> None:
        """The user wants an end."""


@dataclass(frozen=True)
class Rules:
    """What the pool does when something goes wrong.

    Attributes:
        fail_fast: Begin no cell after one has failed.
        limit: Seconds that a child may run.
        usable: Raises if no cell can succeed any more, such as on a full disk.
        has_room: Whether another cell finds room on the disk.
        patience: Seconds that `usable` may raise before no cell begins any more.
    """

    fail_fast: bool = False
    limit: float = 6 * 3600.0
    usable: Callable[[], None] = lambda: None
    has_room: Callable[[], bool] = lambda: True
    patience: float = 0.0


@dataclass
class Pool:
    """Children that run, and results of those that ran.

    Attributes:
        schedule: Decides which cell is next.
        commands: Command line of each cell.
        directory: For the files of children (host).
        watcher: Sees what happens.
        rules: What to do when something goes wrong.
        environment: Variables of children.
    """

    schedule: Schedule
    commands: Mapping[str, Sequence[str]]
    directory: Path
    watcher: Watcher = field(default_factory=Watcher)
    rules: Rules = field(default_factory=Rules)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    children: dict[str, Child] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    interrupts: int = 0
    _refusal: Mapping[str, Any] | None = None
    """Why no cell begins any more."""
    _doubt: float | None = None
    """Since when `usable` has raised; None: it does not."""
    _asked: float = 0.0
    """When it was asked last."""
    _attempts: dict[str, int] = field(default_factory=dict)
    _heard: int = 0

    def run(self) -> Mapping[str, Result]:
        """Run all cells; returns how each ended."""
        with self._signals():
            while self.children or (self.schedule.waiting and not self._stops):
                if self._doubt is not None:
                    self._ask()
                self._begin()
                self._obey()
                for child in list(self.children.values()):
                    self._look_at(child)
                self.watcher.look(self)
                if self.children or self._doubt is not None:
                    time.sleep(INTERVAL)
            for task in self.schedule.waiting:
                self._finish(task.name, Result(State.NOT_RUN, error=self._refusal, attempts=0))
        return self.results

    @property
    def _stops(self) -> bool:
        return bool(self.interrupts or self._refusal)

    def _begin(self) -> None:
        while not self._stops and self._doubt is None:
            if self.schedule.waiting and not self.rules.has_room():
                if not self.children:
                    self._refuse_for_want_of_room()
                return
            task = self.schedule.begin()
            if task is None:
                return
            self._start(task)

    def _start(self, task: Task) -> None:
        attempts = self._attempts[task.name] = self._attempts.get(task.name, 0) + 1
        try:
            child = start_child(
                task.name,
                self.commands[task.name],
                self.directory / task.name,
                self.environment,
                attempts,
            )
        except SlurmFactoryError as error:
            self.schedule.end(task.name, well=False)
            self._refusal = describe(error)
            result = Result(State.NOT_RUN, error=self._refusal, attempts=0)
            self._finish(task.name, result)
            return
        self.children[task.name] = child
        self.watcher.began(child)

    def _refuse_for_want_of_room(self) -> None:
        self._refusal = {
            "exit_code": 7,
            "brief": "There is no room on the disk for another build.",
            "details": "Nothing runs that could free some.",
            "resolution": "Free space, then run the command again: it goes on where it ended.",
        }

    def _look_at(self, child: Child) -> None:
        for event in child.events():
            for share in made_by(event, self.schedule.running[child.name].shares):
                self.schedule.make(share)
        if child.process.poll() is not None:
            self._ended(child)
        elif child.seconds > self.rules.limit and not child.late:
            child.late = True
            child.ask_to_end()
        elif child.asked_to_end and time.monotonic() - child.asked_to_end > GRACE:
            child.kill()

    def _ended(self, child: Child) -> None:
        for event in child.events():
            for share in made_by(event, self.schedule.running[child.name].shares):
                self.schedule.make(share)
        result = child.result()
        task = self.schedule.running[child.name]
        del self.children[child.name]
        self.schedule.end(child.name, well=result.exit_code == 0)
        if self._is_to_be_repeated(result) and child.attempts < ATTEMPTS and not self._stops:
            self.watcher.again(child.name, result)
            self.schedule.again(task)
            return
        if result.state is State.FAILED:
            self._judge()
        self._finish(child.name, result)

    def _is_to_be_repeated(self, result: Result) -> bool:
        """Whether a cell failed for a reason that is not its own, and that may pass."""
        if is_lost(result):
            return True
        if result.state is not State.FAILED or result.exit_code != LXDError.exit_code:
            return False
        self._ask()
        return self._doubt is not None

    def _judge(self) -> None:
        """Whether others may begin after a failure."""
        if self.rules.fail_fast:
            self._refusal = self._refusal or {
                "exit_code": 0,
                "brief": "Another one has failed.",
                "details": "",
                "resolution": "Correct that one, then run the command again.",
            }
        self._ask()

    def _ask(self) -> None:
        """Find out whether a cell can succeed at all."""
        now = time.monotonic()
        if self._doubt is not None and now - self._asked < AGAIN:
            return
        self._asked = now
        try:
            self.rules.usable()
        except SlurmFactoryError as error:
            self._doubt = now if self._doubt is None else self._doubt
            if now - self._doubt >= self.rules.patience:
                self._refusal, self._doubt = self._refusal or describe(error), None
        else:
            self._doubt = None

    def _finish(self, name: str, result: Result) -> None:
        if result.state is State.NOT_RUN and self.interrupts:
            result = replace(result, error=None, exit_code=InterruptedBuildError.exit_code)
        self.results[name] = result
        self.watcher.ended(name, result)

    def _obey(self) -> None:
        """Do what signals have asked for since the last look."""
        if self.interrupts == self._heard:
            return
        hard = self._heard > 0 or self.interrupts > 1
        self._heard = self.interrupts
        self.watcher.interrupted(hard=hard)
        for child in self.children.values():
            child.kill() if hard else child.ask_to_end()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count the signals that ask for an end; ignored ones stay ignored."""

        def note(_: int, __: FrameType | None) -> None:
            self.interrupts += 1

        before = {number: signal.getsignal(number) for number in HELD}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for child in self.children.values():  # Only where an error of ours ends the loop.
                child.ask_to_end()


def made_by(event: Event, shares: frozenset[str]) -> Iterator[str]:
    """What an event of a child shows to be made.

    A base is ready when the child has its copy. The libraries of Spack are in the build cache of
    this machine when all packages but the last one, Slurm, are finished: each goes there at once.

    Args:
        event: What has happened.
        shares: What the child shares with others.
    """
    begun = ""
    if event.kind == "step-end" and event.facts.get("outcome") == "done":
        begun = {"Launch": BASE, "Build packages": PACKAGES}.get(str(event.facts.get("name")), "")
    elif event.kind == "packages" and event.facts["done"] >= event.facts["total"] - 1:
        begun = PACKAGES
    if begun:
        yield from (share for share in shares if share.startswith(begun))


def is_lost(result: Result) -> bool:
    """Whether a cell failed because its machine was lost."""
    return result.state is State.FAILED and (result.error or {}).get("kind") in LOST
