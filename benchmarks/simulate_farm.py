"""Simulate a farm of many machines, and write its part of docs/performance.md.

`uv run python benchmarks/simulate_farm.py` takes a second. Durations are those in farm.toml, each
with its origin. The order of the builds comes from the code that `matrix` runs with
(slurm_factory/farm/schedule.py); clock, machines and network are simulated.

A build is on a member until its tree is there. Then the tree goes through the network to the
coordinator, whose CPUs relocate, check and pack it. `matrix` keeps the place of the build until
that is done. The first build on a member makes its base there, and the first build of a recipe's
libraries makes those for all.
"""

from __future__ import annotations

import heapq
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build import write_part

from slurm_factory.farm.schedule import Room, Schedule, Task

DATA = Path(__file__).with_name("farm.toml")
TITLE = "## A farm of many machines (simulated)"
MEMBERS = (1, 10, 25, 50, 100)
BUILDS = 1000
KINDS = (("system", "standard"), ("system", "minimal"), ("spack", "standard"), ("spack", "minimal"))


@dataclass(frozen=True)
class Work:
    """What one build asks for: seconds, or bytes.

    Attributes:
        libraries: On its member, to make the libraries that others share; 0: it needs none.
        on_member: On its member, apart from that.
        stream: Bytes of its tree.
        coordinator: Seconds of a CPU of the coordinator.
    """

    libraries: float
    on_member: float
    stream: float
    coordinator: float


@dataclass(frozen=True)
class Farm:
    """The machines.

    Attributes:
        members: How many machines build.
        cpus: CPUs of the coordinator.
        bytes_per_second: Of the network at the coordinator.
        base: Seconds to make a base on a member.
    """

    members: int
    cpus: int
    bytes_per_second: float
    base: float


@dataclass(frozen=True)
class Outcome:
    """What a simulation has found; times in seconds.

    Attributes:
        makespan: From the beginning to the end of the last build.
        waits: For each build, how long it waited for its start.
        late: For each build, how long its tree waited for network and CPUs of the coordinator.
        busy: Shares of the time in which members, network and CPUs of the coordinator worked.
        bases: How many bases were made.
        libraries: How often the libraries of a group were made.
    """

    makespan: float
    waits: Sequence[float]
    late: Sequence[float]
    busy: Mapping[str, float]
    bases: int
    libraries: int

    @property
    def per_hour(self) -> float:
        """Packages an hour."""
        return len(self.waits) / self.makespan * 3600


@dataclass
class Servers:
    """Some equal servers, which take what comes in its order."""

    count: int
    worked: float = 0.0
    free: list[float] = field(default_factory=list)

    def serve(self, now: float, seconds: float) -> float:
        """When something that comes now has been served."""
        begin = now if len(self.free) < self.count else max(now, heapq.heappop(self.free))
        self.worked += seconds
        heapq.heappush(self.free, begin + seconds)
        return begin + seconds


class Simulation:
    """A run of builds on a farm, by a virtual clock.

    Args:
        works: What each build asks for, by its name.
        farm: The machines.
    """

    def __init__(self, works: Mapping[str, Work], farm: Farm) -> None:
        self._works, self._farm = works, farm
        tasks = [
            Task(
                name,
                work.libraries + work.on_member,
                shares=frozenset({f"packages {group_of(name)}"} if work.libraries else ()),
            )
            for name, work in works.items()
        ]
        self._schedule = Schedule(tasks, Room(farm.members, 1e9, 1 << 62, 1 << 62))
        self._idle = list(range(farm.members))
        self._with_base: set[int] = set()
        self._made: dict[str, int] = {}
        self._network, self._cpus = Servers(1), Servers(farm.cpus)
        self._events: list[tuple[float, int, str, str, int]] = []
        self._waits: list[float] = []
        self._late: list[float] = []
        self._on_members = 0.0

    def run(self) -> Outcome:
        """Simulate it to its end."""
        now = 0.0
        self._begin(now)
        while self._events:
            now, _, what, name, member = heapq.heappop(self._events)
            if what == "libraries":
                self._schedule.make(f"packages {group_of(name)}")
            elif what == "tree":
                work = self._works[name]
                there = self._network.serve(now, work.stream / self._farm.bytes_per_second)
                done = self._cpus.serve(there, work.coordinator)
                ideal = work.stream / self._farm.bytes_per_second + work.coordinator
                self._late.append(max(0.0, done - now - ideal))
                self._at(done, "end", name, member)
            else:
                self._schedule.end(name, well=True)
                self._idle.append(member)
            self._begin(now)
        farm = self._farm
        return Outcome(
            now,
            self._waits,
            self._late,
            {
                "members": self._on_members / (now * farm.members),
                "network": self._network.worked / now,
                "coordinator": self._cpus.worked / (now * farm.cpus),
            },
            len(self._with_base),
            max(self._made.values(), default=0),
        )

    def _begin(self, now: float) -> None:
        for task in iter(self._schedule.begin, None):
            work, member = self._works[task.name], self._idle.pop()
            base = 0.0 if member in self._with_base else self._farm.base
            self._with_base.add(member)
            group = group_of(task.name)
            makes = bool(work.libraries) and group not in self._made
            if makes:
                self._made[group] = 1
                self._at(now + base + work.libraries, "libraries", task.name, member)
            took = base + work.on_member + (work.libraries if makes else 0.0)
            self._waits.append(now)
            self._on_members += took
            self._at(now + took, "tree", task.name, member)

    def _at(self, time: float, what: str, name: str, member: int) -> None:
        heapq.heappush(self._events, (time, len(self._waits), what, name, member))


def group_of(name: str) -> str:
    """Builds of one group share libraries: recipe and type."""
    return name.rsplit(" ", 1)[0]


def works(data: Mapping[str, Any], count: int) -> dict[str, Work]:
    """Builds of all kinds in turn, with what each asks for."""

    def of(deps: str, kind: str) -> Work:
        row = data[deps][kind]
        packing = row["coordinator"] + data["child"]["cpu"]
        return Work(row.get("libraries", 0.0), row["on_member"], row["stream"], packing)

    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    return {f"{deps} {kind} {n}": of(deps, kind) for n, (deps, kind) in enumerate(kinds)}


def simulate(data: Mapping[str, Any], count: int, members: int, cpus: int) -> Outcome:
    """Simulate so many builds on so many members."""
    network = data["network"]["bytes_per_second"]
    farm = Farm(members, cpus, network, data["base"]["seconds"])
    return Simulation(works(data, count), farm).run()


def report(data: Mapping[str, Any], count: int = BUILDS) -> Iterator[str]:
    """The lines of the page."""
    yield f"**Simulated, not measured**: {count:,} builds (standard and minimal, by both recipes,"
    yield "a quarter each) on members of two CPUs, one build on each at a time."
    yield "`benchmarks/farm.toml` has the durations, with the origin of each. The order is that of"
    yield "`matrix`, by the same code. The coordinator has one link of 1 Gbit/s, which is assumed,"
    yield "and relocates, checks and packs every tree."
    yield "`uv run python benchmarks/simulate_farm.py` simulates again and writes this part."
    yield ""
    yield "| Members | CPUs of the coordinator | Packages an hour | of the ideal | Wait for a member, median | Wait for the coordinator, median | Members busy | Network busy | Coordinator busy |"  # noqa: E501  # a row is a line
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for cpus in data["coordinator"]["cpus"]:
        one = simulate(data, count, 1, cpus).per_hour
        for members in MEMBERS:
            found = simulate(data, count, members, cpus)
            cells = (
                *(f"{members}", f"{cpus}", f"{found.per_hour:,.0f}"),
                f"{found.per_hour / (one * members):.0%}",
                f"{statistics.median(found.waits) / 60:,.0f} min",
                f"{statistics.median(found.late):.1f} s",
                *(f"{found.busy[name]:.0%}" for name in ("members", "network", "coordinator")),
            )
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield from conclusions(data, count)


def conclusions(data: Mapping[str, Any], count: int) -> Iterator[str]:
    """Where it saturates, by the same numbers."""
    all_works = list(works(data, count).values())
    packing = statistics.mean(work.coordinator for work in all_works)
    stream = statistics.mean(work.stream for work in all_works)
    member = statistics.mean(work.on_member for work in all_works)
    network = data["network"]["bytes_per_second"]
    for cpus in data["coordinator"]["cpus"]:
        yield (
            f"- {cpus} CPUs of the coordinator pack {cpus / packing * 3600:,.0f} packages an hour,"
            f" as many as {cpus / packing * member:.0f} members build."
        )
    yield (
        f"- The link carries {network / stream * 3600:,.0f} trees an hour, as many as"
        f" {network / stream * member:.0f} members build."
    )
    yield (
        f"- Each member makes its base once ({data['base']['seconds']} s), all at the same time."
        " Libraries of Spack are made once for all; other builds go on meanwhile."
    )


if __name__ == "__main__":
    write_part(TITLE, list(report(tomllib.loads(DATA.read_text("utf-8")))))
