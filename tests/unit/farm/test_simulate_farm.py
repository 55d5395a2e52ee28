"""The simulation of a farm, with small numbers that can be counted by hand."""

import tomllib

import pytest
from simulate_farm import DATA, Farm, Outcome, Simulation, Work, conclusions, report, simulate

DATA_OF_IT = tomllib.loads(DATA.read_text("utf-8"))
PLAIN = Work(libraries=0, on_member=10, stream=0, coordinator=0)


def run(count: int, members: int, work: Work = PLAIN, *, cpus: int = 1, base: float = 0) -> Outcome:
    works = {f"system standard {n}": work for n in range(count)}
    return Simulation(works, Farm(members, cpus, 100, base)).run()


def test_builds_share_members() -> None:
    found = run(6, 2)
    assert found.makespan == 30
    assert sorted(found.waits) == [0, 0, 10, 10, 20, 20]
    assert found.busy["members"] == pytest.approx(1)
    assert found.per_hour == pytest.approx(720)


def test_each_member_makes_its_base_once() -> None:
    found = run(6, 2, base=5)
    assert (found.makespan, found.bases) == (35, 2)


def test_libraries_are_made_once_while_others_of_the_group_wait() -> None:
    work = Work(libraries=50, on_member=10, stream=0, coordinator=0)
    found = run(3, 3, work)
    assert found.libraries == 1
    assert found.makespan == 60
    assert sorted(found.waits) == [0, 50, 50]


def test_coordinator_packs_as_many_at_once_as_it_has_cpus() -> None:
    work = Work(libraries=0, on_member=10, stream=0, coordinator=4)
    assert run(4, 4, work).makespan == 10 + 4 * 4
    assert run(4, 4, work).busy["coordinator"] == pytest.approx(16 / 26)
    assert sorted(run(4, 4, work).late) == [0, 4, 8, 12]
    assert run(4, 4, work, cpus=4).makespan == 14


def test_trees_follow_each_other_through_the_network() -> None:
    work = Work(libraries=0, on_member=10, stream=200, coordinator=0)
    found = run(3, 3, work)
    assert found.makespan == 10 + 3 * 2
    assert found.busy["network"] == pytest.approx(6 / 16)


def test_more_members_never_make_less_and_the_coordinator_is_the_limit() -> None:
    found = [simulate(DATA_OF_IT, 80, members, 2) for members in (1, 4, 16, 64)]
    rates = [each.per_hour for each in found]
    assert rates == sorted(rates)
    limit = 2 / min(row["coordinator"] for row in DATA_OF_IT["system"].values()) * 3600
    assert rates[-1] < limit


def test_page_has_a_row_for_each_farm_and_says_that_it_is_simulated() -> None:
    lines = list(report(DATA_OF_IT, 20))
    assert lines[0].startswith("**Simulated, not measured**")
    assert sum(line.startswith("| 100 |") for line in lines) == 2
    assert any("as many as" in line for line in conclusions(DATA_OF_IT, 20))


def test_every_number_has_its_origin() -> None:
    tables = [DATA_OF_IT[name] for name in ("member", "base", "child", "network", "coordinator")]
    tables += [kind for deps in ("system", "spack") for kind in DATA_OF_IT[deps].values()]
    assert all(table.keys() & {"measured", "assumed"} for table in tables)
