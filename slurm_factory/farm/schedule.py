"""Which of several tasks begins next. Pure: no clock, no processes.

The pool of `matrix` uses it, and so does the simulation of a farm in benchmarks/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

ROUNDING = 1e-6
"""Of shares of CPUs."""


@dataclass(frozen=True)
class Room:
    """What a task takes, or what there is in all.

    Attributes:
        tasks: Number of tasks.
        cores: CPUs.
        memory: In bytes.
        disk: In bytes.
    """

    tasks: int = 1
    cores: float = 0
    memory: int = 0
    disk: int = 0

    def plus(self, other: Room) -> Room:
        """Both together."""
        return Room(
            self.tasks + other.tasks,
            self.cores + other.cores,
            self.memory + other.memory,
            self.disk + other.disk,
        )

    def fits(self, room: Room) -> bool:
        """Whether it is at most `room`."""
        return (
            self.tasks <= room.tasks
            and self.cores <= room.cores + ROUNDING
            and self.memory <= room.memory
            and self.disk <= room.disk
        )


@dataclass(frozen=True)
class Task:
    """Something that takes long, such as a build.

    Attributes:
        name: No other task has it.
        seconds: The expected duration.
        takes: What it takes while it runs.
        shares: What it makes if nobody has made it yet, and others need as well.
        where: Name of the part of the room that it needs; empty: any.
    """

    name: str
    seconds: float
    takes: Room = field(default_factory=Room)
    shares: frozenset[str] = frozenset()
    where: str = ""


class Schedule:
    """Tasks that wait and tasks that run, within a room.

    The longest task begins first, so that no long one is left for the end. A task waits while
    another one makes something that it needs as well; tasks that do not need it go on. A task that
    is larger than the whole room begins when nothing else runs.

    Args:
        tasks: All tasks.
        room: What there is in all.
        made: What has been made before.
        parts: Parts of the room by their names.

    Attributes:
        waiting: Those that have not begun, the next one first.
        running: Those that have begun and not ended, by name.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        room: Room,
        made: Iterable[str] = (),
        parts: Mapping[str, Room] | None = None,
    ) -> None:
        self.waiting = sorted(tasks, key=lambda task: (-task.seconds, task.name))
        self.running: dict[str, Task] = {}
        self._room = room
        self._parts = dict(parts or {})
        self._made = set(made)

    def begin(self) -> Task | None:
        """Begin the next task; None if none can begin now."""
        made_now = {share for each in self.running.values() for share in each.shares} - self._made
        for task in self.waiting:
            if self._has_room_for(task) and not task.shares & made_now:
                self.waiting.remove(task)
                self.running[task.name] = task
                return task
        return None

    def _has_room_for(self, task: Task) -> bool:
        running = list(self.running.values())
        there = [each for each in running if each.where == task.where]
        part = self._parts.get(task.where, self._room)
        return _fits(task, running, self._room) and _fits(task, there, part)

    def make(self, share: str) -> None:
        """Something that tasks share has been made."""
        self._made.add(share)

    def end(self, name: str, *, well: bool) -> None:
        """A task has ended. One that ended well has made all that it shares."""
        task = self.running.pop(name)
        if well:
            self._made |= task.shares

    def again(self, task: Task) -> None:
        """A task that has ended in vain waits again, before all others."""
        self.waiting.insert(0, task)


def _fits(task: Task, others: Sequence[Task], room: Room) -> bool:
    taken = task.takes
    for other in others:
        taken = taken.plus(other.takes)
    return not others or taken.fits(room)
