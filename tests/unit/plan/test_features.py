"""The feature table and the variants by which a user changes what it says."""

import re
from collections.abc import Iterable
from itertools import product

import pytest
from packaging.version import Version
from slurm_plugins import PLUGIN_DIRECTORY, recorded, unexplained

from slurm_factory.constants import BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.bases import Base, bases, find_base
from slurm_factory.plan.features import (
    Empty,
    Feature,
    known_absences,
    packages_for,
    parse_variants,
    select,
    table,
    without_defaults,
)
from slurm_factory.plan.releases import Release, find_release, series
from slurm_factory.resources import load_toml

DEBIAN = find_base("debian@12", ("debian", "12"))
RELEASE = find_release("24.11.5")
X86 = "x86_64"
SPACK_VARIANTS = {
    *("cgroup", "gtk", "hdf5", "hwloc", "mariadb", "nvml", "pam", "pmix"),
    *("readline", "restd", "rsmi"),
}
"""Variants of Spack's Slurm recipe that have a row here (packages/slurm/package.py)."""


def refusal(text: str, recipe: Deps = Deps.SYSTEM) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        select(BuildType.STANDARD, parse_variants(text), RELEASE, DEBIAN, recipe, X86)
    return caught.value


def chosen(build_type: BuildType, text: str = "", recipe: Deps = Deps.SYSTEM) -> set[str]:
    selection = select(build_type, parse_variants(text), RELEASE, DEBIAN, recipe, X86)
    return {feature.name for feature in selection.chosen}


@pytest.mark.parametrize("build_type", BuildType)
@pytest.mark.parametrize("name", series())
def test_every_series_type_base_and_recipe_can_be_selected(
    name: str, build_type: BuildType
) -> None:
    wanted = {feature.name for feature in table() if build_type in feature.types}
    for base, recipe in product(bases(), Deps):
        selection = select(build_type, {}, find_release(name), base, recipe, X86)
        names = {feature.name for feature in selection.chosen}
        assert {"munge", "readline"} <= names
        assert wanted == names | selection.unavailable.keys()
        assert len(selection.chosen) + len(selection.left_out) == len(table())


def test_minimal_holds_what_every_cluster_needs() -> None:
    assert chosen(BuildType.MINIMAL) == {"munge", "nss", "completion", "readline"}


def test_standard_holds_what_the_contract_promises() -> None:
    promised = {"hwloc", "numa", "pmix", "restd", "cgroup", "pam", "mariadb", "lua", "curl"}
    assert chosen(BuildType.STANDARD) == promised | {
        "munge",
        "nss",
        "completion",
        "readline",
        "lz4",
        "x11",
    }


def test_gpu_is_standard_and_three_kinds_of_detection() -> None:
    more = chosen(BuildType.GPU) - chosen(BuildType.STANDARD)
    assert more == {"nvml", "rsmi", "oneapi"}


def test_gpu_on_ubuntu_22_04_does_without_what_that_release_has_no_packages_for() -> None:
    jammy, noble = (find_base(f"ubuntu@{release}", ("", "")) for release in ("22.04", "24.04"))
    absent = {"libze-dev", "libze1", "librocm-smi-dev"}
    assert not absent & set(packages_for(jammy, X86))
    assert absent <= set(packages_for(noble, X86))
    selection = select(BuildType.GPU, {}, RELEASE, jammy, Deps.SYSTEM, X86)
    assert {"rsmi", "oneapi"} <= selection.unavailable.keys()
    assert "nvml" in {feature.name for feature in selection.chosen}


def test_openmpi_is_promised_by_the_spack_recipe_and_explained_for_the_other() -> None:
    assert "openmpi" in chosen(BuildType.STANDARD, recipe=Deps.SPACK)
    selection = select(BuildType.STANDARD, {}, RELEASE, DEBIAN, Deps.SYSTEM, X86)
    assert "openmpi" in selection.unavailable


def test_what_is_built_beside_slurm_is_not_a_variant_of_it() -> None:
    for feature in table():
        assert not (feature.roots and feature.variant), feature.name


@pytest.mark.parametrize(
    ("build_type", "roots"),
    [
        (BuildType.MINIMAL, ()),
        (BuildType.STANDARD, ("openmpi",)),
        (BuildType.GPU, ("openmpi",)),
    ],
)
def test_openmpi_is_built_beside_slurm_and_not_for_minimal_packages(
    build_type: BuildType, roots: tuple[str, ...]
) -> None:
    assert select(build_type, {}, RELEASE, DEBIAN, Deps.SPACK, X86).roots == roots
    assert select(build_type, {}, RELEASE, DEBIAN, Deps.SYSTEM, X86).roots == ()


@pytest.mark.parametrize("build_type", BuildType)
def test_every_variant_is_decided_for_the_recipe_of_spack(build_type: BuildType) -> None:
    selection = select(build_type, {"hdf5": True}, RELEASE, DEBIAN, Deps.SPACK, X86)
    decided = {word[1:]: word[0] for word in selection.variants}
    assert len(decided) == len(selection.variants)
    assert decided == {
        feature.variant: "+" if feature in selection.chosen else "~"
        for feature in table()
        if feature.variant
    }


def test_a_root_is_a_plain_spec() -> None:
    for feature in table():
        for root in feature.roots:
            assert re.fullmatch(r"[a-z][a-z0-9-]*( [+~][a-z0-9_]+| [a-z_]+=[a-z0-9_]+)*", root)


def test_no_two_rows_share_a_name_or_a_variant() -> None:
    names = [feature.name for feature in table()]
    variants = [feature.variant for feature in table() if feature.variant]
    assert len(set(names)) == len(names)
    assert len(set(variants)) == len(variants)


def test_variants_are_named_as_in_the_recipe_of_spack() -> None:
    assert {feature.variant for feature in table()} >= SPACK_VARIANTS


def test_what_can_be_switched_off_has_an_argument_that_does_it() -> None:
    for feature in table():
        if feature.variant:
            # configure knows nothing of Perl's API, which `make` compiles only if told so.
            assert feature.off or feature.name == "perl", feature.name


def test_what_configure_should_enable_is_checked_afterwards() -> None:
    for feature in table():
        if feature.on or feature.types:
            assert feature.defines or feature.files or feature.empty, feature.name


def test_what_configure_may_turn_down_can_be_left_out_under_its_own_name() -> None:
    for feature in table():
        if feature.defines:
            assert feature.variant == feature.name


def test_on_and_off_never_speak_about_different_options() -> None:
    def option(argument: str) -> str:
        bare = argument.split("=", maxsplit=1)[0].lstrip("-")
        for prefix in ("with-", "without-", "enable-", "disable-"):
            bare = bare.removeprefix(prefix)
        # An answer to a test of configure (Autoconf, "Cache Variable Names").
        return bare.removeprefix("ac_cv_lib_").split("_LZ4_")[0]

    for feature in table():
        if feature.on and feature.off:
            assert {option(a) for a in feature.off} == {option(a) for a in feature.on}


def test_no_argument_can_break_out_of_its_line() -> None:
    for feature in table():
        for argument in (*feature.on, *feature.off):
            assert not set(argument) & set(" \n'\"`$;|&<>"), argument


def test_an_empty_cell_promises_nothing() -> None:
    for name, build_type, base, recipe in product(series(), BuildType, bases(), Deps):
        selection = select(build_type, {}, find_release(name), base, recipe, X86)
        promising = {feature for feature, _ in (*selection.defines, *selection.files)}
        assert not promising & selection.unavailable.keys()


def test_every_source_that_a_feature_needs_is_known() -> None:
    known = {row["name"] for row in load_toml("sources.toml")["source"]}
    assert {source for feature in table() for source in feature.sources} <= known


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.slug)
def test_a_base_has_packages_for_every_type_since_it_serves_them_all(base: Base) -> None:
    assert {"libmunge-dev", "libpmix-dev", "libhdf5-dev"} <= {*packages_for(base, X86)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("+hdf5", {"hdf5": True}),
        ("+hdf5 ~restd", {"hdf5": True, "restd": False}),
        ("+hdf5~restd", {"hdf5": True, "restd": False}),
        ("~restd+hdf5", {"hdf5": True, "restd": False}),
        ("-restd +hdf5", {"hdf5": True, "restd": False}),
        ("  +hdf5 \t\n ~restd\n", {"hdf5": True, "restd": False}),
        ("+multiple_slurmd", {"multiple_slurmd": True}),
        ("+hdf5 +hdf5", {"hdf5": True}),
    ],
)
def test_variants_are_read_as_spack_reads_them(text: str, expected: dict[str, bool]) -> None:
    assert parse_variants(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("hdf5", "+", "~", "++hdf5", "+~hdf5", "+HDF5", "+hdf5=yes", "+hdf5,~restd", "--", "-"),
        *("--force", "-- +hdf5", "+hdf5;id", "+hdf5&&id", "+hdf5|id", "$(id)", "+$(id)", "`id`"),
        *("+hdf5>x", "+h*", "'+hdf5'", '"+hdf5"', "+hdf5\\", "+hdf5\x00", "+hdf5\x1b[31m"),
        *("+ħdf5", "+hdf٥", "＋hdf5", "../+hdf5", "+../../etc", "+hdf5\n;id", "%h{x}"),
    ],
)
def test_hostile_variants_are_refused_in_three_plain_lines(text: str) -> None:
    error = refusal(text)
    lines = str(error).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("text", ["+" + "x" * 100_000, "$" * 100_000, "+hdf5" * 20_000 + "~hdf5"])
def test_a_very_long_variant_does_not_fill_the_screen(text: str) -> None:
    assert len(str(refusal(text))) < 500


@pytest.mark.parametrize("text", ["+hdf5 ~hdf5", "~hdf5+hdf5", "+hdf5 -hdf5"])
def test_a_contradiction_is_refused_and_not_decided_by_the_last_word(text: str) -> None:
    assert "both enabled and disabled" in refusal(text).brief


@pytest.mark.parametrize(
    ("text", "near"), [("+hdf", "hdf5"), ("~rest", "restd"), ("+mysql_mariadb", "mariadb")]
)
def test_an_unknown_variant_is_refused_with_the_nearest_one(text: str, near: str) -> None:
    assert refusal(text).details == f"Did you mean {near}?"


@pytest.mark.parametrize(
    ("name", "plugin", "reason"),
    [
        ("rrd", "ext_sensors_rrd", "It needs RRDtool"),
        ("switch_hpe_slingshot", "switch_hpe_slingshot", "It is built against libcxi"),
    ],
)
def test_what_no_package_has_is_refused_with_the_reason(
    name: str, plugin: str, reason: str
) -> None:
    error = refusal(f"+{name}")
    assert f"no package has {plugin}" in error.brief
    assert error.details.startswith(reason)


@pytest.mark.parametrize("text", ["+ipxe", "+h", "+gdk"])
def test_a_variant_like_no_other_is_refused_with_a_list_of_those_that_are_available(
    text: str,
) -> None:
    details = refusal(text).details
    assert details.startswith("Available: readline, hwloc, ")
    assert "gtk" not in details


@pytest.mark.parametrize("text", ["~munge", "+munge"])
def test_what_every_package_contains_is_said_to_be_no_choice(text: str) -> None:
    error = refusal(text)
    assert "munge is not an optional feature" in error.brief
    assert "cannot remove it" in error.details


@pytest.mark.parametrize("text", ["~openmpi", "+openmpi"])
@pytest.mark.parametrize("recipe", Deps)
def test_what_comes_with_a_build_type_is_said_to_be_no_choice_and_where_it_is(
    text: str, recipe: Deps
) -> None:
    error = refusal(text, recipe)
    assert "openmpi is not an optional feature" in error.brief
    assert "build types standard and gpu, but not with --deps system: the" in error.details


def test_an_unknown_variant_like_no_other_is_refused_with_the_list() -> None:
    assert "hdf5" in refusal("+zzzz").details


def test_tls_is_there_from_the_first_series_on_that_has_it() -> None:
    for name in series():
        plan = (parse_variants("+tls"), find_release(name), DEBIAN, Deps.SPACK, X86)
        if Version(name) < Version("25.05"):
            with pytest.raises(ConfigurationError) as caught:
                select(BuildType.MINIMAL, *plan)
            assert caught.value.details == "Slurm has tls/s2n since 25.05."
        else:
            assert "+tls" in select(BuildType.MINIMAL, *plan).variants
    assert "no package of s2n-tls" in refusal("+tls").details


@pytest.mark.parametrize(("text", "spec"), [("+ucx", "openmpi fabrics=ucx"), ("", "openmpi")])
def test_open_mpi_gets_the_fabric_that_slurm_has(text: str, spec: str) -> None:
    variants = parse_variants(text)
    plan = (variants, RELEASE, DEBIAN, Deps.SPACK, X86)
    assert select(BuildType.STANDARD, *plan).roots == (spec,)
    assert select(BuildType.MINIMAL, {}, *plan[1:]).roots == ()


@pytest.mark.parametrize("text", ["+ucx ~pmix", "~pmix +ucx"])
def test_a_feature_that_needs_another_is_refused_without_it(text: str) -> None:
    error = refusal(text)
    assert error.brief == "+ucx needs +pmix."
    assert error.resolution == "Add +pmix, or remove +ucx."


def test_a_variant_of_an_empty_cell_is_refused_with_the_reason_of_the_table() -> None:
    error = refusal("+gtk")
    assert "--deps system" in error.brief
    assert error.details.startswith("GTK loads its modules")
    error = refusal("+gtk", Deps.SPACK)
    assert "--deps spack" in error.brief
    assert error.details == "Sview needs GTK 2, and Spack has only GTK 3.24 and newer."


def test_leaving_out_what_is_not_available_anyway_is_not_an_error() -> None:
    assert "gtk" not in chosen(BuildType.STANDARD, "~gtk")


def test_a_feature_left_out_is_switched_off_for_configure_and_promises_nothing() -> None:
    selection = select(BuildType.STANDARD, {"lua": False}, RELEASE, DEBIAN, Deps.SYSTEM, X86)
    assert "--without-lua" in selection.configure_arguments
    assert "--with-lua" not in selection.configure_arguments
    assert "HAVE_LUA" not in {macro for _, macro in selection.defines}


def test_an_opt_in_is_switched_on_for_configure_and_promises_its_files() -> None:
    selection = select(BuildType.MINIMAL, {"hdf5": True}, RELEASE, DEBIAN, Deps.SYSTEM, X86)
    assert "--with-hdf5=yes" in selection.configure_arguments
    assert ("hdf5", "bin/sh5util") in selection.files


def test_a_variant_that_changes_nothing_is_not_part_of_the_plan() -> None:
    given = {"restd": True, "hdf5": False, "lua": False, "gtk": True}
    assert without_defaults(given, BuildType.STANDARD) == {"lua": False, "gtk": True}
    assert without_defaults(given, BuildType.MINIMAL) == {"restd": True, "gtk": True}


@pytest.mark.parametrize(
    ("cell", "applies"),
    [
        (Empty(reason="x"), True),
        (Empty(reason="x", recipe=Deps.SPACK), False),
        (Empty(reason="x", bases=("debian@12",)), True),
        (Empty(reason="x", bases=("debian@13",)), False),
        (Empty(reason="x", before="24.11"), False),
        (Empty(reason="x", before="25.05"), True),
        (Empty(reason="x", before="25.05", recipe=Deps.SPACK), False),
    ],
)
def test_an_empty_cell_is_only_that_of_its_recipe_base_and_older_series(
    cell: Empty, applies: bool
) -> None:
    release: Release = RELEASE
    assert cell.applies(release, DEBIAN, Deps.SYSTEM, X86) is applies


LISTS = recorded()
FOUND_FOR_STANDARD = {
    *("BUILD_LZ4", "HAVE_LUA", "HAVE_PMIX", "LINUX_BUILD", "WITH_BPF", "WITH_CGROUP", "WITH_CURL"),
    *("WITH_DBUS", "WITH_HTTP_PARSER", "WITH_JSON_PARSER", "WITH_JWT", "WITH_LIBHTTP_PARSER"),
    *("WITH_MUNGE", "WITH_MYSQL", "WITH_SLURMRESTD", "WITH_YAML"),
}
"""Conditionals of Slurm's Makefiles that configure sets for what the feature table promises."""


def promised_plugins(features: Iterable[Feature]) -> set[str]:
    """All plugins that some of the features promise."""
    return {
        file.removeprefix(PLUGIN_DIRECTORY).removesuffix(".so")
        for feature in features
        for file in feature.files
        if file.startswith(PLUGIN_DIRECTORY)
    }


def test_lists_of_plugins_are_recorded_for_every_series() -> None:
    assert set(LISTS) == set(series())


def test_what_no_package_has_is_something_that_slurm_has_and_named_once() -> None:
    absent = [plugin for absence in known_absences() for plugin in absence.plugins]
    assert len(absent) == len(set(absent))
    assert set(absent) <= set().union(*LISTS.values())


def test_what_no_package_has_is_not_promised_by_a_feature() -> None:
    absent = {plugin for absence in known_absences() for plugin in absence.plugins}
    assert not absent & promised_plugins(table())


def test_a_promised_plugin_is_one_that_the_series_can_build() -> None:
    for name, plugins in LISTS.items():
        plan = (find_release(name), DEBIAN, Deps.SPACK, X86)
        possible = [feature for feature in table() if not feature.why_not(*plan)]
        # A link to the one of the version that it was built with.
        assert promised_plugins(possible) - {"mpi_pmix"} <= set(plugins)


@pytest.mark.parametrize("name", series())
def test_a_standard_package_lacks_what_is_known_of_every_series(name: str) -> None:
    plugins = LISTS[name]
    built = {plugin for plugin, needed in plugins.items() if needed <= FOUND_FOR_STANDARD}
    left_out = [feature for feature in table() if BuildType.STANDARD not in feature.types]
    assert unexplained(plugins, built, left_out) == set()


SOME = {"auth_munge", "ext_sensors_rrd", "mpi_pmix_v4", "mpi_pmix_v5", "gpu_nvml"}
NVML = [feature for feature in table() if feature.name == "nvml"]


@pytest.mark.parametrize(
    ("present", "left_out", "expected"),
    [
        ({"auth_munge", "mpi_pmix_v4"}, NVML, set()),
        ({"auth_munge", "mpi_pmix_v5", "gpu_nvml"}, [], set()),
        ({"auth_munge", "mpi_pmix_v4"}, [], {"gpu_nvml"}),
        ({"mpi_pmix_v4"}, NVML, {"auth_munge"}),
        ({"auth_munge", "mpi_pmix_v4", "ext_sensors_rrd"}, NVML, {"ext_sensors_rrd"}),
    ],
    ids=["left out", "all", "without a reason", "promised to all", "not absent after all"],
)
def test_a_plugin_is_missing_for_a_known_reason_or_not_at_all(
    present: set[str], left_out: list[Feature], expected: set[str]
) -> None:
    assert unexplained(SOME, present, left_out) == expected
