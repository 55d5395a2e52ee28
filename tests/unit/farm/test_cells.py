"""Which cells a matrix has."""

from dataclasses import replace
from pathlib import Path

import pytest
from plan_samples import DEBIAN_12, SPACK, X86_64

from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.farm.cells import Axes, MatrixSpec, describe, find_cells
from slurm_factory.farm.matrix_file import read_matrix, with_options
from slurm_factory.plan.plan import BuildPlan, BuildRequest, make_plan
from slurm_factory.plan.releases import series
from slurm_factory.request import BuildOptions

SYSTEM = Axes(series=("25.05",), bases=("debian@12",), deps=("system",))


def plan(options: BuildOptions) -> BuildPlan:
    request = BuildRequest(
        options.slurm_version,
        gpu=options.gpu,
        minimal=options.minimal,
        deps=Deps(options.deps),
        base=options.base,
        arch=options.arch,
        spack=SPACK,
    )
    return make_plan(request, X86_64, DEBIAN_12)


def stems(axes: Axes, *cells: BuildOptions) -> list[str]:
    found = find_cells(MatrixSpec(axes, cells), BuildOptions(), plan)
    return [cell.name for cell in found]


def test_product_has_every_combination_in_order() -> None:
    axes = Axes(("25.05", "25.11"), ("standard", "gpu"), ("debian@12", "debian@13"), ("system",))
    assert stems(axes) == [
        *("slurm-25.05-debian-12-system", "slurm-25.05-debian-13-system"),
        *("slurm-25.05-gpu-debian-12-system", "slurm-25.05-gpu-debian-13-system"),
        *("slurm-25.11-debian-12-system", "slurm-25.11-debian-13-system"),
        *("slurm-25.11-gpu-debian-12-system", "slurm-25.11-gpu-debian-13-system"),
    ]


def test_all_means_every_series() -> None:
    assert len(stems(replace(SYSTEM, series=("all",)))) == len(series())


def test_cells_of_the_same_package_are_one() -> None:
    axes = replace(SYSTEM, series=("25.05", "25.05"), bases=("debian@12", "same"))
    assert stems(axes) == ["slurm-25.05-debian-12-system"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("25.05 gpu", ["25.05", "25.11", "25.11-gpu"]),
        ("gpu", ["25.05", "25.11"]),
        ("25.*", []),
        ("debian@* 25.11 system", ["25.05", "25.05-gpu"]),
    ],
)
def test_pattern_leaves_out_cells_that_have_all_its_words(pattern: str, left: list[str]) -> None:
    axes = replace(SYSTEM, series=("25.05", "25.11", "24.11"), types=("standard", "gpu"))
    axes = replace(axes, exclude=(pattern, "24.11 standard"))
    expected = [f"slurm-{name}-debian-12-system" for name in left]
    if pattern != "gpu":
        expected.append("slurm-24.11-gpu-debian-12-system")
    assert stems(axes) == expected


def test_pattern_with_a_series_matches_its_releases() -> None:
    axes = replace(SYSTEM, series=("25.05.8", "25.11.7"), exclude=("25.05",))
    assert stems(axes) == ["slurm-25.11.7-debian-12-system"]


@pytest.mark.parametrize(
    ("axes", "brief", "details"),
    [
        (replace(SYSTEM, types=("standad",)), "'standad'", "Did you mean standard?"),
        (replace(SYSTEM, exclude=("25.05 gpu",)), "leaves no cell out", "No cell has 'gpu'."),
        (replace(SYSTEM, exclude=("debin@12",)), "leaves no cell out", "Did you mean debian@12?"),
        (replace(SYSTEM, exclude=("",)), "leaves no cell out", "No cell has all of its words."),
        (replace(SYSTEM, exclude=("25.05",)), "no cells", "exclude all of them"),
        (Axes(), "no cells", "Neither --series nor a file"),
        (replace(SYSTEM, series=("25.06",)), "The cell 25.06 standard", "25.05"),
        (replace(SYSTEM, bases=("debian@99",)), "The cell 25.05 standard debian@99", ""),
    ],
)
def test_what_is_wrong_is_named(axes: Axes, brief: str, details: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        stems(axes)
    assert brief in caught.value.brief
    assert details in caught.value.details


def test_cell_that_cannot_be_planned_comes_with_the_pattern_that_leaves_it_out() -> None:
    with pytest.raises(ConfigurationError) as caught:
        stems(replace(SYSTEM, series=("25.05", "25.06")))
    pattern = "25.06 standard debian@12 system"
    assert caught.value.resolution.endswith(f"--exclude '{pattern}'")
    axes = replace(SYSTEM, series=("25.05", "25.06"), exclude=(pattern,))
    assert stems(axes) == ["slurm-25.05-debian-12-system"]


def test_whole_cell_that_cannot_be_planned_has_to_leave_the_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        stems(SYSTEM, BuildOptions("25.06", base="debian@12", deps="system"))
    assert caught.value.resolution.endswith("Or remove the cell from the file.")


def test_whole_cells_come_after_the_product() -> None:
    own = BuildOptions("24.11", gpu=True, base="debian@13", deps="system")
    assert stems(SYSTEM, own)[-1] == "slurm-24.11-gpu-debian-13-system"
    assert describe(own) == "24.11 gpu debian@13 system"


FILE = """
series = ["25.05", "25.11"]
type = ["standard", "gpu"]
base = "debian@12"
deps = ["system"]
exclude = ["25.11 gpu"]

[[cell]]
slurm-version = "24.11"
type = "minimal"
base = "debian@12"
deps = "system"
additional-variants = "+hdf5"
patch = ["patches/fix.patch"]
suffix = "site1"
backports = false

[[cell]]
source = "src/slurm.tar.bz2"
sha256 = "00"
"""


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "matrix.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_file_has_lists_and_whole_cells(tmp_path: Path) -> None:
    spec = read_matrix(written(tmp_path, FILE))
    assert spec.axes == Axes(
        ("25.05", "25.11"),
        ("standard", "gpu"),
        ("debian@12",),
        ("system",),
        ("",),
        ("25.11 gpu",),
    )
    first, second = spec.cells
    assert first == BuildOptions(
        "24.11",
        minimal=True,
        base="debian@12",
        deps="system",
        additional_variants="+hdf5",
        patches=(tmp_path / "patches/fix.patch",),
        suffix="site1",
        backports=False,
    )
    assert second.source == str(tmp_path / "src/slurm.tar.bz2")


def test_url_of_a_source_stays(tmp_path: Path) -> None:
    text = '[[cell]]\nsource = "git+https://git.example/slurm@main"\n'
    assert read_matrix(written(tmp_path, text)).cells[0].source.startswith("git+https://")


def test_options_replace_lists_and_add_patterns(tmp_path: Path) -> None:
    spec = with_options(
        read_matrix(written(tmp_path, FILE)), series=("24.11",), types=None, exclude=["minimal"]
    )
    assert spec.axes.series == ("24.11",)
    assert spec.axes.types == ("standard", "gpu")
    assert spec.axes.exclude == ("25.11 gpu", "minimal")
    assert len(spec.cells) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sries = []", "sries is no key. Did you mean series?"),
        ("[[cell]]\nslurm_version = '25.05'", "Did you mean slurm-version?"),
        ("[[cell]]\n[[cell]]\npatches = []", "patches of cell 2 is no key. Did you mean patch?"),
        ("[[cell]]\ntype = 'huge'", "type of cell 1 is 'huge'."),
        ("series = 25.05", "series is 25.05. It must be a list"),
        ("series = [", "It is no TOML"),
        ("a = " + "[" * 2000, "It is no TOML"),
        (b"\xff\xfe", "It is no TOML"),
    ],
)
def test_file_that_is_wrong_is_refused_with_the_reason(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_matrix(written(tmp_path, text))
    assert why in caught.value.details
    assert "matrix.toml" in caught.value.brief


def test_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be used"):
            read_matrix(path)
