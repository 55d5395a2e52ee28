"""Which task begins next, and how many fit."""

from dataclasses import replace

import pytest

from slurm_factory.farm.room import DISK_PER_CELL, Machine, divide
from slurm_factory.farm.schedule import Room, Schedule, Task
from slurm_factory.instances.this_machine import BYTES_PER_JOB

MANY = Room(100, 1000, 1 << 60, 1 << 60)


def names(schedule: Schedule) -> list[str]:
    """The tasks that can begin now."""
    return [task.name for task in iter(schedule.begin, None)]


def test_longest_begins_first() -> None:
    tasks = [Task("short", 1), Task("long", 9), Task("middle", 5)]
    assert names(Schedule(tasks, MANY)) == ["long", "middle", "short"]


@pytest.mark.parametrize(
    ("room", "begin"),
    [
        (Room(2, 99, 99, 99), 2),
        (Room(99, 3, 99, 99), 3),
        (Room(99, 99, 1, 99), 1),
        (Room(99, 99, 99, 4), 4),
        (Room(99, 0.5, 99, 99), 1),
    ],
)
def test_as_many_run_as_have_room_but_one_at_least(room: Room, begin: int) -> None:
    tasks = [Task(str(n), 1, Room(1, 1, 1, 1)) for n in range(6)]
    schedule = Schedule(tasks, room)
    assert len(names(schedule)) == begin
    schedule.end("0", well=True)
    assert names(schedule) == [str(begin)]


def test_small_one_does_not_wait_for_a_large_one_that_has_no_room() -> None:
    tasks = [Task("a", 9, Room(1, 1)), Task("large", 8, Room(1, 4)), Task("b", 7, Room(1, 1))]
    schedule = Schedule(tasks, Room(9, 4, 9, 9))
    assert names(schedule) == ["a", "b"]
    schedule.end("a", well=True)
    schedule.end("b", well=False)
    assert names(schedule) == ["large"]


def test_others_of_a_group_wait_until_what_they_share_is_made_and_other_groups_go_on() -> None:
    base = frozenset({"base a"})
    tasks = [Task("a1", 9, shares=base), Task("a2", 8, shares=base), Task("a3", 7, shares=base)]
    tasks += [Task("b1", 2, shares=frozenset({"base b"})), Task("c", 1)]
    schedule = Schedule(tasks, MANY)
    assert names(schedule) == ["a1", "b1", "c"]
    schedule.make("base a")
    assert names(schedule) == ["a2", "a3"]


def test_what_was_made_before_holds_nobody_up() -> None:
    tasks = [Task(name, 1, shares=frozenset({"base a"})) for name in "xyz"]
    assert names(Schedule(tasks, MANY, {"base a"})) == ["x", "y", "z"]


@pytest.mark.parametrize(("well", "begin"), [(True, ["y", "z"]), (False, ["y"])])
def test_one_that_fails_leaves_it_to_the_next_to_make_what_they_share(
    well: bool, begin: list[str]
) -> None:
    tasks = [Task(name, 1, shares=frozenset({"base a"})) for name in "xyz"]
    schedule = Schedule(tasks, MANY)
    assert names(schedule) == ["x"]
    schedule.end("x", well=well)
    assert names(schedule) == begin


def test_task_that_is_tried_again_is_the_next() -> None:
    schedule = Schedule([Task("long", 9), Task("short", 1)], Room(1, 9, 9, 9))
    assert names(schedule) == ["long"]
    task = schedule.running["long"]
    schedule.end("long", well=False)
    schedule.again(task)
    assert names(schedule) == ["long"]


@pytest.mark.parametrize(
    ("cores", "count", "cells", "jobs", "at_once", "each"),
    [
        (2, 28, None, None, 2, 2),
        (2, 28, 1, None, 1, 2),
        (2, 28, 4, None, 4, 2),
        (64, 28, None, None, 16, 5),
        (64, 3, None, None, 3, 23),
        (8, 28, 2, 3, 2, 3),
        (1, 1, None, None, 1, 1),
        *((cores, 28, cells, 1, cells, 1) for cores in (1, 7, 10) for cells in range(1, 28)),
        (4, 0, None, None, 1, 4),
    ],
)
def test_machine_is_divided_among_builds(
    cores: int, count: int, cells: int | None, jobs: int | None, at_once: int, each: int
) -> None:
    found = divide([Machine(cores, 1 << 40)], MANY, count, cells, jobs)
    assert (found.whole.tasks, found.jobs) == (at_once, each)
    everything = found.each
    for _ in range(at_once - 1):
        everything = everything.plus(found.each)
    assert everything.fits(found.whole)


@pytest.mark.parametrize(
    ("cores", "cells", "at_once", "each"),
    [
        ((2, 2, 2), None, 6, 2),
        ((2, 2, 2), 3, 3, 2),
        ((16, 16), None, 8, 5),
        ((16, 4), None, 4, 3),
        ((16, 4), 2, 2, 4),
    ],
)
def test_several_machines_are_divided_as_the_smallest_one_can_take(
    cores: tuple[int, ...], cells: int | None, at_once: int, each: int
) -> None:
    machines = [Machine(number, number << 30) for number in cores]
    found = divide(machines, MANY, 28, cells, None)
    assert (found.whole.tasks, found.jobs) == (at_once, each)
    assert found.whole.cores == len(cores) * min(cores)
    assert found.whole.memory == len(cores) * min(cores) << 30
    assert found.each.cores * at_once <= found.whole.cores


@pytest.mark.parametrize(
    ("limit", "count", "at_once", "each"), [(4, 1, 1, 4), (4, 28, 2, 3), (16, 28, 4, 5)]
)
def test_a_limit_counts_for_the_number_of_builds_and_for_their_jobs(
    limit: int, count: int, at_once: int, each: int
) -> None:
    found = divide([Machine(64, 1 << 40)] * 2, replace(MANY, cores=limit), count, None, None)
    assert (found.whole.tasks, found.jobs, found.whole.cores) == (at_once, each, limit)
    assert found.each.cores * at_once <= limit


def test_a_task_waits_for_its_part_of_the_room_and_others_go_on() -> None:
    tasks = [Task("a1", 9, where="arm"), Task("a2", 8, where="arm"), Task("x", 1, where="x86")]
    parts = {"arm": Room(1, 9, 9, 9), "x86": Room(2, 9, 9, 9)}
    schedule = Schedule(tasks, Room(3, 9, 9, 9), parts=parts)
    assert names(schedule) == ["a1", "x"]
    schedule.end("a1", well=True)
    assert names(schedule) == ["a2"]


def test_little_memory_or_disk_limits_how_many_run() -> None:
    for memory, disk in ((3 * 5 * BYTES_PER_JOB, 1 << 40), (1 << 40, 3 * DISK_PER_CELL)):
        found = divide([Machine(64, memory)], replace(MANY, disk=disk), 28, None, None)
        tasks = [Task(str(n), 1, found.each) for n in range(28)]
        assert len(names(Schedule(tasks, found.whole))) == 3
