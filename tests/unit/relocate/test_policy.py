"""The shipped policy: what stays outside, what goes along, and that it says why."""

import re
from pathlib import Path, PurePosixPath

import pytest
from pydantic import ValidationError

from slurm_factory.relocate.elf import ElfFacts, ElfKind
from slurm_factory.relocate.policy import Policy, load_policy, matches

LUA = PurePosixPath("lib/slurm/job_submit_lua.so")
PMIX = PurePosixPath("lib/slurm/mpi_pmix_v5.so")


def facts(*mentions: str, soname: str | None = None) -> ElfFacts:
    return ElfFacts(Path("x.so"), ElfKind.SHARED, soname=soname, mentions=frozenset(mentions))


@pytest.mark.parametrize(
    "soname",
    [
        "libc.so.6",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libnss_sss.so.2",
        "libcrypt.so.1",
        "libpam.so.0",
        "libselinux.so.1",
        "libaudit.so.1",
        "libsystemd.so.0",
        "libudev.so.1",
        "libnvidia-ml.so",
        "libnvidia-ml.so.1",
        "librocm_smi64.so",
        "libze_loader.so.1",
        "libibverbs.so.1",
    ],
)
def test_libraries_that_belong_to_the_machine_stay_outside(soname: str) -> None:
    rule = load_policy().outside_for(soname)
    assert rule is not None
    assert len(rule.reason) > 20


@pytest.mark.parametrize(
    "soname",
    ["libcrypto.so.3", "libz.so.1", "libmunge.so.2", "libnsl.so.2", "libnss3.so", "libcap.so.2"],
)
def test_libraries_that_differ_between_distributions_are_bundled(soname: str) -> None:
    assert load_policy().outside_for(soname) is None


def test_lua_of_the_version_compiled_for_is_taken_although_all_try_the_plain_name() -> None:
    opened = facts("liblua.so", "liblua-5.4.so", "liblua5.4.so", "liblua5.4.so.0", "liblua.so.5.4")
    (rule,) = load_policy().dlopened_by(LUA, opened)
    assert rule.sonames[0] == "liblua5.4.so.0"
    assert opened.mentions <= rule.names


@pytest.mark.parametrize("name", ["libpmix.so", "libpmix.so.2"])
def test_pmix_is_taken_with_or_without_a_number(name: str) -> None:
    (rule,) = load_policy().dlopened_by(PMIX, facts(name))
    assert rule.sonames == ("libpmix.so.2",)


def test_file_that_opens_nothing_fetches_nothing() -> None:
    assert load_policy().dlopened_by(LUA, facts()) == ()
    assert load_policy().dlopened_by(PurePosixPath("bin/x"), facts("libpmix.so.2")) == ()


def test_own_name_of_a_library_is_not_opened_even_after_it_was_tagged() -> None:
    elf = facts("libhwloc.so.15", "libother.so.1", soname="libhwloc-0123abcd.so.15")
    assert load_policy().opened_names(elf) == {"libother.so.1"}


def test_names_that_gnutls_only_compares_are_not_opened() -> None:
    elf = facts("libnettle.so.8", "libother.so.1", soname="libgnutls-0123abcd.so.30")
    assert load_policy().opened_names(elf) == {"libother.so.1"}


def test_plugin_directories_lie_where_slurm_looks() -> None:
    targets = {rule.id: str(rule.target) for rule in load_policy().directories}
    assert targets == {
        "mariadb-plugins": "lib/private/mariadb/plugin",
        "pmix-components": "lib/private/pmix/lib/pmix",
        "pmix-messages": "lib/private/pmix/share/pmix",
    }


@pytest.mark.parametrize("program", ["sbin/slurmrestd", "sbin/slurmctld", "bin/srun"])
def test_program_that_setcap_would_break_is_a_known_limit(program: str) -> None:
    limits = load_policy().known_limits
    (limit,) = [limit for limit in limits if limit.id == "secure-execution"]
    assert matches(program, limit.applies_to)
    assert "AmbientCapabilities=" in limit.text


def test_no_machine_triplet_is_written_into_the_policy() -> None:
    assert not re.search(r"(x86_64|aarch64)-linux", load_policy().model_dump_json())


def test_misspelt_key_in_the_policy_is_an_error() -> None:
    document = load_policy().model_dump() | {"outsides": []}
    with pytest.raises(ValidationError, match="outsides"):
        Policy.model_validate(document)
