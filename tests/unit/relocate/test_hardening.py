"""Figures of hardening: counted as they are, and no build passes below their floors."""

from pathlib import PurePosixPath
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from slurm_factory.constants import Deps
from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate import hardening
from slurm_factory.relocate.hardening import (
    Figure,
    Floors,
    Group,
    Hardening,
    Relro,
    Share,
    count,
    load_floors,
    require_floors,
)

FULL = Hardening(Relro.FULL, pie=True, canary=True, fortify=True, control_flow=True)
PARTIAL = Hardening(Relro.PARTIAL, canary=True, control_flow=False)
NONE = Hardening(pie=False, canary=False, fortify=False, control_flow=False)
FILES = {PurePosixPath(name): NONE for name in ("bin/a", "bin/b", "bin/c", "bin/d")} | {
    PurePosixPath(f"bin/e{number}"): FULL for number in range(6)
}
FREE: Floors = dict.fromkeys(Figure)


def floors(**ratios: float) -> dict[Group, Floors]:
    return {
        "slurm": FREE | {Figure(name): ratio for name, ratio in ratios.items()},
        "plugins": FREE,
        "bundled": FREE,
    }


def test_files_are_counted_by_figure_without_those_that_it_does_not_apply_to() -> None:
    counted = {str(figure): str(share) for figure, share in count([FULL, PARTIAL, NONE]).items()}
    assert counted == {
        "relro": "2 of 3",
        "relro_full": "1 of 3",
        "pie": "1 of 2",
        "canary": "2 of 3",
        "fortify": "1 of 2",
        "control_flow": "1 of 3",
    }


def test_every_figure_of_no_file_is_none_of_none() -> None:
    assert count([]) == dict.fromkeys(Figure, Share(have=0, of=0))


@pytest.mark.parametrize("figure", Figure)
def test_figure_below_its_floor_ends_the_build(figure: Figure) -> None:
    with pytest.raises(VerificationError) as caught:
        require_floors({"slurm": FILES, "bundled": {}}, floors(**{figure: 0.61}))
    assert caught.value.exit_code == 6
    text = f"slurm: {figure} 6 of 10 (0.600, floor 0.610), not bin/a, bin/b, bin/c, …"
    assert caught.value.details == text
    assert "resources/hardening.json" in caught.value.resolution


@pytest.mark.parametrize("ratio", [0.0, 0.59, 0.6])
def test_figure_at_its_floor_or_above_passes(ratio: float) -> None:
    require_floors({"slurm": FILES, "bundled": {}}, floors(pie=ratio, canary=ratio))


def test_figure_that_applies_to_no_file_passes() -> None:
    files = {PurePosixPath("lib/x.so"): PARTIAL}
    require_floors({"slurm": files, "bundled": {}}, floors(pie=1.0, fortify=1.0))


def test_floors_of_one_group_are_not_those_of_the_other() -> None:
    require_floors({"slurm": {}, "bundled": FILES}, floors(pie=1.0))


@pytest.mark.parametrize("deps", Deps)
def test_lowest_figures_that_were_measured_pass(deps: Deps) -> None:
    # 23.02.8, minimal, on debian@12 and debian@13: many of its plugins have no array at all.
    plain = Hardening(Relro.PARTIAL, canary=False, fortify=True)
    files = {PurePosixPath(f"{n}.so"): PARTIAL if n < 69 else plain for n in range(100)}
    require_floors({"plugins": files}, load_floors()[deps])


def test_all_figures_that_fell_are_in_one_message() -> None:
    with pytest.raises(VerificationError) as caught:
        require_floors({"slurm": FILES, "bundled": {}}, floors(pie=1.0, canary=0.9, relro=0.5))
    assert [text.split()[1] for text in caught.value.details.split("; ")] == ["pie", "canary"]


def test_every_figure_of_both_recipes_has_an_entry() -> None:
    found = load_floors()
    assert {*found} == {*Deps}
    assert [{*groups} for groups in found.values()] == [{*get_args(Group)}] * len(Deps)
    assert all({*entry} == {*Figure} for groups in found.values() for entry in groups.values())


@pytest.mark.parametrize("entry", [{"pie": 95}, {"pie": -0.1}, {"pies": 0.9}])
def test_floor_that_no_figure_could_be_compared_with_is_an_error(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    monkeypatch.setattr(hardening, "load_json", lambda name: {"system": {"slurm": entry}})
    with pytest.raises(ValidationError):
        load_floors.__wrapped__()
