"""The Spack recipe with a stand-in for Spack, on this machine: steps, retries, evidence, tree."""

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from paths import DATA
from plan_samples import spack_plan
from spack_samples import (
    CONFIG_H,
    LOCK,
    LZ4,
    MUNGE,
    OPENSSL,
    RECORD,
    SLURM,
    StandIn,
    database,
    description,
    recorded,
    row,
    stand_in,
)

from slurm_factory.buildcaches.layout import ENTRIES, INDEX
from slurm_factory.exceptions import (
    BuildError,
    ConfigurationError,
    DownloadError,
    OutputError,
    SlurmFactoryError,
    SpackError,
    VerificationError,
)
from slurm_factory.output.records import SourceError
from slurm_factory.package.built import Built
from slurm_factory.package.manifest import SpackBuild
from slurm_factory.plan.releases import catalog
from slurm_factory.recipes.ccache import compiler_cache
from slurm_factory.recipes.spack import build as spack_build
from slurm_factory.recipes.spack import install as spack_install
from slurm_factory.recipes.spack.build import build
from slurm_factory.recipes.spack.cache import (
    index_is_current,
    missing_packages,
    refresh_indexes,
    take_packages,
)
from slurm_factory.recipes.spack.install import install
from slurm_factory.recipes.spack.lock import Lock, read_lock, save_lock
from slurm_factory.recipes.spack.project import write_project
from slurm_factory.recipes.spack.session import EPOCH, Spack
from slurm_factory.recipes.spack.tree import PARTS, Collected, collect
from slurm_factory.util.files import NEARLY_FULL_BYTES

REMOTE = "https://b.example/cache"
SLURM_FILES = {
    "bin/srun": "#!/bin/sh\n",
    "sbin/slurmd": "#!/bin/sh\n",
    "lib/slurm/auth_munge.so": "",
    "lib/slurm/cred_munge.so": "",
    "lib/nss/libnss_slurm.so.2": "",
    "lib/libslurm.la": "",
    "include/slurm/slurm.h": "",
    "share/man/man8/slurmrestd.8": "",
    "share/bash-completion/completions/srun": "",
    "share/bash-completion/completions/scontrol": "",
    "share/doc/slurm/index.html": "",
    "share/licenses/slurm/LICENSE.OpenSSL": "GPL",
    ".spack/archived-files/config.h": CONFIG_H,
    ".spack/archived-files/configure-arguments": "--prefix=/opt/slurm/software\n--with-munge\n",
}
MUNGE_FILES = {
    **dict.fromkeys(PARTS["munge"], ""),
    "include/munge.h": "",
    "share/licenses/munge/COPYING": "the license of munge",
}


def install_slurm(here: StandIn) -> None:
    """Let an install make Slurm's prefix, with one real program in it, and munge's."""
    slurm = here.prefix("slurm-1", SLURM_FILES)
    shutil.copy("/bin/true", slurm / "bin/srun")
    here.prefix("munge-1", MUNGE_FILES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(spack_install, "FIRST_PAUSE", 0.0)
    with stand_in(tmp_path) as here:
        install_slurm(here)
        here.prefix("lz4-1", {"lib/liblz4.so.1": ""})
        known = {SLURM: "slurm-1", MUNGE: "munge-1", LZ4: "lz4-1"}
        here.prefix(".spack-db", {"index.json": database(here.folder, **known)})
        yield here


def built(here: StandIn) -> Built:
    return built_by(here.spack)


def built_by(spack: Spack) -> Built:
    return build(spack.job, spack.instance, spack.paths)


def record_of(built: Built) -> SpackBuild:
    assert built.spack is not None
    return built.spack


def failing(here: StandIn, name: str = "toyfail") -> None:
    """Let every install fail as it was recorded, with the log in a stage of this machine."""
    stage = here.folder / f"stage/spack-stage-{name}-1.0"
    said = recorded(f"install-{name}.txt").splitlines()
    log = said[-1].rpartition(": ")[2]
    stage = here.folder / Path(log).parent.name
    (stage / "spack-src").mkdir(parents=True)
    shutil.copy(DATA / f"spack_output/log-{name}.txt", stage / Path(log).name)
    (stage / "spack-src/config.log").write_text("what configure tried")
    here.answers("install", "\n".join(said).replace(str(Path(log).parent), str(stage)), 1)


def failure_of(here: StandIn, kind: type[SlurmFactoryError]) -> SlurmFactoryError:
    lock = read_lock(recorded("toymain.lock"))
    with pytest.raises(kind) as caught:
        install(here.spack, lock)
    assert type(caught.value).exit_code == kind.exit_code
    return caught.value


# --- the whole ----------------------------------------------------------------------------------


def test_the_tree_holds_slurm_and_munges_programs_and_nothing_of_the_build(here: StandIn) -> None:
    tree = built(here).tree
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {
        *("bin/srun", "sbin/slurmd", "lib/slurm/auth_munge.so", "lib/slurm/cred_munge.so"),
        *("lib/nss/libnss_slurm.so.2", "include/slurm/slurm.h", *PARTS["munge"]),
        *("share/licenses/slurm/LICENSE.OpenSSL", "share/licenses/munge/copyright"),
        "share/bash-completion/completions/srun",
        "share/bash-completion/completions/scontrol",
    }
    assert "the license of munge" in (tree / "share/licenses/munge/copyright").read_text()


def test_a_program_in_the_tree_that_is_not_slurms_is_reported_with_its_package(
    here: StandIn,
) -> None:
    shutil.copy("/bin/true", here.folder / "prefixes/munge-1/sbin/munged")
    installed = built(here).installed
    assert {str(path): package.name for path, package in installed.items()} == {
        "sbin/munged": "munge"
    }


def test_a_link_into_a_prefix_that_stays_behind_is_left_out(here: StandIn) -> None:
    slurm = here.folder / "prefixes/slurm-1"
    (slurm / "bin/pcc").symlink_to("/opt/slurm-factory/store/pmix/bin/pmixcc")
    (slurm / "bin/sbatch").symlink_to("srun")
    tree = built(here).tree
    assert not (tree / "bin/pcc").is_symlink()
    assert (tree / "bin/sbatch").readlink() == Path("srun")


def test_the_manifest_shows_for_each_package_how_it_came_and_how_long_it_took(
    here: StandIn,
) -> None:
    lines = (
        f"{SLURM[:7]} slurm@24-11-5-1: fetching from build cache",
        f"{SLURM[:7]} slurm@24-11-5-1: finished",
        f"{LZ4[:7]} lz4@1.10.0: staging",
        f"{LZ4[:7]} lz4@1.10.0: finished",
    )
    here.answers("install", "\n".join(lines) + "\n")
    Path(here.spack.stats_log).write_text(
        "# a.c\ndirect_cache_hit\n# b.c\ncache_miss\ncache_miss\n"
    )
    record = record_of(built(here))
    assert record.concretized
    assert {(p.name, p.cached, p.run_time) for p in record.packages} == {
        *(("slurm", True, True), ("lz4", False, True), ("munge", False, True)),
    }
    assert record.cached == 1
    assert (record.compiler_cache_hits, record.compiler_cache_misses) == (1, 2)
    assert record.configure == ("--prefix=/opt/slurm/software", "--with-munge")
    assert record.externals == ()


def test_what_spack_runs_with_does_not_depend_on_the_surroundings(here: StandIn) -> None:
    built(here)
    environment = here.environment("install")
    assert environment["SPACK_DISABLE_LOCAL_CONFIG"] == "1"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["SPACK_PYTHON"] == "/usr/bin/python3"
    assert environment["CCACHE_DIR"] == str(compiler_cache(here.spack.job))
    assert environment["SPACK_USER_CACHE_PATH"].startswith(str(here.spack.work))
    assert [call.split()[0] for call in here.calls] == ["concretize", "python", "install"]
    assert "install --only-concrete -j 3" in here.calls


def test_what_the_build_cache_keeps_for_every_release_has_the_date_of_none(
    here: StandIn,
) -> None:
    built(here)
    dates = {str(release.epoch) for release in catalog()}
    assert here.environment("install")["SOURCE_DATE_EPOCH"] == str(EPOCH)
    assert str(EPOCH) not in dates


def choosing(spack: Spack, **changes: Any) -> Spack:
    """The same with other settings about Spack."""
    plan = replace(spack.job.plan, spack=replace(spack.choice, **changes))
    return replace(spack, job=replace(spack.job, plan=plan))


def test_another_source_mirror_is_not_a_reason_to_concretize_again(here: StandIn) -> None:
    project, _ = write_project(here.spack)
    other = choosing(here.spack, source_mirrors=("https://m.example/sources",))
    assert write_project(other)[0].saved_lock == project.saved_lock


def test_no_password_of_a_build_cache_reaches_the_logs_or_the_instance(here: StandIn) -> None:
    spack = choosing(here.spack, buildcaches=("https://user:secret@b.example/cache",))
    write_project(spack)
    for place in (spack.logs, spack.input, Path(spack.paths.project)):
        for path in place.rglob("*"):
            assert path.is_dir() or b"b.example" not in path.read_bytes()


def test_the_project_is_in_the_instance_with_externals_and_our_recipes(here: StandIn) -> None:
    built(here)
    project = here.folder / "project"
    assert "cmake@3.25" in (project / "externals.yaml").read_text()
    assert (project / "spack_repo/slurm_factory/repo.yaml").exists()
    assert (project / "spack_repo/slurm_factory/packages/slurm/package.py").exists()
    assert not (project / "site.yaml").exists()
    for name in ("spack.yaml", "externals.yaml"):
        assert (here.spack.logs / name).read_text() == (project / name).read_text()
    assert json.loads((here.spack.logs / "spack.lock").read_text()) == LOCK


def test_all_that_the_compiler_of_the_base_compiles_gets_the_hardening_flags(
    here: StandIn,
) -> None:
    externals = {"packages": {"gcc": {"externals": [{"spec": "gcc@12.2.0", "prefix": "/usr"}]}}}
    instance = replace(here.spack.instance, record=RECORD | {"externals": externals})
    write_project(replace(here.spack, instance=instance))
    written = yaml.safe_load((here.folder / "project/externals.yaml").read_text())
    (compiler,) = written["packages"]["gcc"]["externals"]
    compiled = here.spack.job.plan.compiler
    flags = " ".join(compiled.flags)
    assert compiler["extra_attributes"]["flags"] == {"cflags": flags, "cxxflags": flags}
    assert compiler["extra_attributes"]["compilers"] == {
        "c": f"{compiled.sysroot}/bin/gcc",
        "cxx": f"{compiled.sysroot}/bin/g++",
        "fortran": f"{compiled.sysroot}/bin/gfortran",
    }
    assert {*compiled.flags} == {*compiled.hardening, f"--sysroot={compiled.sysroot}"}
    assert "extra_attributes" not in externals["packages"]["gcc"]["externals"][0]


def test_with_the_glibc_of_the_base_its_own_compilers_stay(tmp_path: Path) -> None:
    found = {"spec": "gcc@12.2.0", "extra_attributes": {"compilers": {"c": "/usr/bin/gcc"}}}
    externals = {"packages": {"gcc": {"externals": [found]}}}
    with stand_in(tmp_path) as here:
        job = replace(here.spack.job, plan=spack_plan(minimal=True, glibc="base"))
        instance = replace(here.spack.instance, record=RECORD | {"externals": externals})
        write_project(replace(here.spack, instance=instance, job=job))
        written = yaml.safe_load((here.folder / "project/externals.yaml").read_text())
    (compiler,) = written["packages"]["gcc"]["externals"]
    assert compiler["extra_attributes"]["compilers"] == {"c": "/usr/bin/gcc"}
    assert "sysroot" not in str(written)


def test_the_users_own_configuration_goes_along(tmp_path: Path) -> None:
    with stand_in(tmp_path) as here:
        text = "repos:\n  site: https://me:secret@git.example/repo\n"
        spack = choosing(here.spack, config=text)
        write_project(spack)
        assert (here.folder / "project/site.yaml").read_text() == text
        logged = (spack.logs / "site.yaml").read_text()
        assert logged == text.replace("me:secret@", "***@")


# --- what was decided before --------------------------------------------------------------------


class Again(NamedTuple):
    """A second build in the same cache directory, as after its instance has gone."""

    calls: list[str]
    concretized: bool


def again(here: StandIn) -> Again:
    for name in ("calls.txt", "store", "project"):
        path = here.folder / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    for path in here.spack.work.iterdir():
        if path != here.spack.input:
            shutil.rmtree(path)
    Path(here.spack.instance.build_dir).mkdir()
    record = record_of(built(here))
    return Again(here.calls, record.concretized)


def test_a_second_build_does_not_concretize_again(here: StandIn) -> None:
    built(here)
    second = again(here)
    assert not [call for call in second.calls if call.startswith("concretize")]
    assert not second.concretized
    assert json.loads((here.folder / "project/spack.lock").read_text()) == LOCK


def test_an_instance_elsewhere_has_before_each_command_whatever_spack_looks_for(
    here: StandIn,
) -> None:
    job = here.spack.job
    looked_for = {here.spack.views, job.settings.source_cache_dir, *here.spack.buildcaches}
    brought = [mount.source for mount in spack_build.mounts(job) if mount.whole]
    assert {path for path in looked_for if not any(map(path.is_relative_to, brought))} == set()


@pytest.mark.parametrize("damage", ["", "{", '{"roots": []}'])
def test_a_damaged_kept_lock_is_not_an_error_and_is_replaced(here: StandIn, damage: str) -> None:
    built(here)
    (saved,) = here.spack.job.settings.spack_locks_dir.iterdir()
    saved.write_text(damage)
    assert again(here).concretized
    assert json.loads(saved.read_text()) == LOCK


def test_a_lock_is_kept_whole_or_not_at_all(here: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        built(here)
    locks = here.spack.job.settings.spack_locks_dir
    assert list(locks.iterdir()) == []


def test_two_builds_that_keep_the_same_lock_at_the_same_time_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, replacing = tmp_path / "lock.json", Path.replace

    def replace_after_the_other(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replacing)
        save_lock("of the other", saved)
        return replacing(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    save_lock("of this one", saved)
    assert saved.read_text() == "of this one"
    assert list(tmp_path.iterdir()) == [saved]


def test_a_plan_that_spack_finds_no_way_for_is_one_clear_error(here: StandIn) -> None:
    here.answers("concretize", "==> Error: failed to concretize `slurm`: nothing provides x\n", 1)
    with pytest.raises(SpackError) as caught:
        built(here)
    assert "nothing provides x" in caught.value.details
    assert "SLURM_FACTORY_SPACK_CONFIG" in caught.value.resolution
    assert str(here.spack.logs / "spack.yaml") in caught.value.resolution


def test_what_leaves_no_way_is_reported_with_spacks_first_reason(here: StandIn) -> None:
    here.answers("concretize", recorded("concretize-munge.txt"), 1)
    with pytest.raises(SpackError) as caught:
        built(here)
    assert caught.value.details == (
        "Cannot build munge, since it is configured `buildable:false` and no externals satisfy the"
        " request"
    )


@pytest.mark.parametrize(("target", "told"), [("x86_64_v2", False), ("zen4", True)])
def test_a_target_that_was_set_is_among_what_may_leave_no_way(
    here: StandIn, target: str, told: bool
) -> None:
    here.answers("concretize", recorded("concretize-munge.txt"), 1)
    spack = choosing(here.spack, target=target)
    with pytest.raises(SpackError) as caught:
        built_by(spack)
    assert ("SLURM_FACTORY_SPACK_TARGET" in caught.value.resolution) is told


@pytest.mark.parametrize("first", ["buildcache", "concretize"])
def test_a_mistake_that_only_spack_sees_names_the_sites_file_and_the_line(
    here: StandIn, first: str
) -> None:
    said = recorded("concretize-site.txt").replace("/root/spack-project", f"{here.folder}/project")
    here.answers(first, said, 1)
    spack = here.spack
    entry(spack.job.settings.buildcache_dir, "a", 100)
    settings = spack.job.settings.model_copy(update={"spack_config": Path("/etc/mine.yaml")})
    with pytest.raises(ConfigurationError) as caught:
        built_by(replace(spack, job=replace(spack.job, settings=settings)))
    assert caught.value.brief == "Spack cannot use /etc/mine.yaml, line 6."
    assert caught.value.details == (
        "Additional properties are not allowed ('prefx' was unexpected)."
    )
    assert "SLURM_FACTORY_SPACK_CONFIG" in caught.value.resolution


def test_an_index_that_spack_cannot_write_is_spacks_failure_before_anything_is_built(
    here: StandIn,
) -> None:
    here.answers("buildcache", "==> Error: no\n", 1)
    cache = here.spack.job.settings.buildcache_dir
    entry(cache, "a", 100)
    with pytest.raises(SpackError) as caught:
        built(here)
    assert caught.value.details == "==> Error: no"
    assert str(cache) in caught.value.resolution


def test_a_lock_that_this_program_cannot_read_is_spacks_failure(here: StandIn) -> None:
    (here.folder / "spack.lock").write_text('{"roots": "new"}')
    with pytest.raises(SpackError, match=r"spack\.lock"):
        built(here)


# --- failures -----------------------------------------------------------------------------------


def test_a_package_that_fails_is_named_with_phase_reason_and_evidence(here: StandIn) -> None:
    failing(here)
    shutil.copy(DATA / "spack_output/toyfail.lock", here.folder / "spack.lock")
    with pytest.raises(SpackError) as caught:
        built(here)
    assert caught.value.brief == "toyfail@1.0 failed in phase build."
    assert "undeclared_thing" in caught.value.details
    assert str(here.spack.logs) in caught.value.resolution
    (bundle,) = (here.spack.logs / "failed").iterdir()
    assert {path.name for path in bundle.iterdir()} == {
        *("spack-build-out.txt", "config.log", "spack-build-env.txt"),
    }
    assert {"spack.yaml", "spack.lock"} <= {path.name for path in here.spack.logs.iterdir()}
    assert "make: *** [Makefile:4: toyfail.o] Error 1" in here.screen.getvalue()


def test_the_first_error_of_a_packages_compiler_is_shown_with_its_place(
    here: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[SourceError] = []
    monkeypatch.setattr(here.spack.job.reporter, "source_error", shown.append)
    failing(here)
    shutil.copy(DATA / "spack_output/toyfail.lock", here.folder / "spack.lock")
    with pytest.raises(SpackError):
        built(here)
    [error] = shown
    assert (error.file, error.line, error.column) == ("toyfail.c", 1, 28)
    assert "undeclared_thing" in error.text


def test_no_password_of_a_proxy_is_in_the_evidence_that_users_send(here: StandIn) -> None:
    failing(here)
    (config_log,) = here.folder.glob("spack-stage-*/spack-src/config.log")
    config_log.write_bytes(b"\xff http://me:s3cret@proxy.example\r\n")
    failure_of(here, SpackError)
    files = [path for path in (here.spack.logs / "failed").rglob("*") if path.is_file()]
    texts = {path.name: path.read_bytes() for path in files}
    assert texts["config.log"] == b"\xff http://***@proxy.example\r\n"
    shown = b"http_proxy='http://***@proxy.example'; export http_proxy\n"
    assert texts["spack-build-env.txt"] == shown
    assert b"s3cret" not in b"".join(texts.values())


def test_only_a_failed_download_is_tried_again_and_then_it_is_one(here: StandIn) -> None:
    failing(here, "toyfetch")
    error = failure_of(here, DownloadError)
    assert "toyfetch@1.0" in error.brief
    assert "Connection refused" in error.details
    assert "slurm-factory prefetch" in error.resolution
    assert [c.split()[0] for c in here.calls].count("install") == spack_install.ATTEMPTS
    assert here.screen.getvalue().count("Next attempt in") == spack_install.ATTEMPTS - 1


def test_a_download_that_works_the_second_time_is_not_a_failure(here: StandIn) -> None:
    failing(here, "toyfetch")
    here.answers("install-2", "")
    install(here.spack, read_lock(recorded("toymain.lock")))
    assert [c.split()[0] for c in here.calls].count("install") == 2


@pytest.mark.parametrize(("name", "kind"), [("toynet", DownloadError), ("toyfail", SpackError)])
def test_what_trying_again_does_not_fix_is_tried_once(
    here: StandIn, name: str, kind: type[SlurmFactoryError]
) -> None:
    failing(here, name)
    failure_of(here, kind)
    assert [c.split()[0] for c in here.calls].count("install") == 1


def test_a_source_with_a_wrong_checksum_names_both_checksums(here: StandIn) -> None:
    failing(here, "toynet")
    error = failure_of(here, DownloadError)
    assert "has the wrong checksum" in error.brief
    assert "Expected 0000" in error.details
    assert "60d1005e88d7" in error.details


def test_the_old_installer_is_asked_where_the_new_one_keeps_the_reason_to_itself(
    here: StandIn,
) -> None:
    said = recorded("install-toyfail.txt").replace("/srv/build/spack-stage", "/nowhere")
    here.answers("install", said, 1)
    here.answers("old", "==> Error: CommandNotFoundError: spack requires 'ccache'.\n", 1)
    error = failure_of(here, SpackError)
    assert "spack requires 'ccache'" in error.details
    (asked,) = [call for call in here.calls if call.startswith("-c")]
    assert asked.endswith("install --only-concrete /iosvolvixskehbkfnrgfqgpcmiwlinba")


def test_a_download_that_failed_without_a_log_is_tried_again_too(here: StandIn) -> None:
    said = recorded("install-toyfetch.txt").replace("/srv/build/spack-stage", "/nowhere")
    here.answers("install", said, 1)
    here.answers("old", recorded("old-toyfetch.txt"), 1)
    assert "Connection refused" in failure_of(here, DownloadError).details
    assert [c.split()[0] for c in here.calls].count("install") == spack_install.ATTEMPTS


def test_what_works_with_the_old_installer_is_tried_again_with_the_new_one(
    here: StandIn,
) -> None:
    here.answers("install-1", recorded("install-toyfail.txt").replace("/srv", "/nowhere"), 1)
    install(here.spack, read_lock(recorded("toymain.lock")))
    assert [c.split()[0] for c in here.calls].count("install") == 2


def test_spack_itself_failing_is_reported_with_its_last_error(here: StandIn) -> None:
    here.answers("install", "==> Error: [Errno 1] Operation not permitted\n", 1)
    error = failure_of(here, SpackError)
    assert "Operation not permitted" in error.details
    assert error.resolution == f"Evidence: {here.spack.logs}."


def test_spack_itself_meeting_the_limit_of_an_instance_is_reported_as_a_full_disk(
    here: StandIn,
) -> None:
    said = "==> Error: [Errno 122] Disk quota exceeded: '/root/project/.spack.lock.tmp'\n"
    here.answers("install", said, 1)
    error = failure_of(here, SpackError)
    assert error.brief == "spack install failed: the disk of the instance is full."
    assert "Disk quota exceeded" in error.details


def full(here: StandIn) -> None:
    failing(here)
    (stage,) = here.folder.glob("spack-stage-*")
    (stage / "spack-build-out.txt").write_text("cc1: No space left on device\n")


def test_a_full_disk_of_the_instance_is_distinguished_from_a_full_cache(
    here: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(here)
    assert "disk of the instance is full" in failure_of(here, SpackError).brief
    usage = shutil.disk_usage(here.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=NEARLY_FULL_BYTES - 1))
    assert "cache directory" in failure_of(here, OutputError).brief


def test_a_full_disk_is_reported_with_the_phase_that_met_it(here: StandIn) -> None:
    full(here)
    with pytest.raises(SpackError, match=r"toyfail@1\.0 failed in phase build: the disk"):
        install(here.spack, read_lock(recorded("toyfail.lock")))


def test_an_entry_of_a_build_cache_that_cannot_be_used_is_reported(here: StandIn) -> None:
    here.answers("install", recorded("install-damaged.txt"))
    install(here.spack, read_lock(recorded("toymain.lock")))
    warnings = [line for line in here.screen.getvalue().splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert "The entry of toydep@1.0 in a build cache is damaged or gone:" in warnings[0]


TOYFETCH = "ywnzdaqu2xqxqspax33fe3hl5qzwgm3e"


@pytest.mark.parametrize(
    ("remote", "there", "attempts"),
    [(TOYFETCH, True, 2), (TOYFETCH, False, 1), (SLURM, True, 1)],
    ids=["remote", "remote, and available nowhere", "not remote, so that it was tried before"],
)
def test_a_source_that_a_remote_build_cache_seemed_to_spare_is_fetched_where_spack_cannot(
    here: StandIn, remote: str, there: bool, attempts: int
) -> None:
    failing(here, "toyfetch")
    (log,) = here.folder.glob("spack-stage-*/spack-build-out.txt")
    log.write_text(log.read_text().replace("[Errno 111] Connection refused", "HTTP Error 404"))
    here.answers("install-2", "")
    archive = here.folder / "toyfetch.tar.gz"
    archive.write_text("a source")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    place = f"_source-cache/archive/{sha256[:2]}/{sha256}.tar.gz"
    source = {"sha256": sha256, "stored_as": place, "urls": [f"file://{archive}"]}
    here.answers("python", description(TOYFETCH, "toyfetch", "1.0", source) if there else "")
    spack = here.spack
    lock = read_lock(recorded("toyfetch.lock"))
    with nullcontext() if attempts > 1 else pytest.raises(DownloadError, match="toyfetch"):
        install(spack, lock, remote=frozenset({remote}))
    assert [c.split()[0] for c in here.calls].count("install") == attempts
    assert (spack.job.settings.source_cache_dir / place).exists() == (attempts > 1)


def test_each_finished_package_is_one_line_where_there_is_no_terminal(here: StandIn) -> None:
    here.answers("install", recorded("install-cached.txt"))
    install(here.spack, read_lock(recorded("toymain.lock")))
    lines = [line for line in here.screen.getvalue().splitlines() if " packages, " in line]
    assert len(lines) == 4
    assert "4 of 4 packages, 4 from the build cache: toymain@1.0 from the build cache" in lines[-1]


# --- promises -----------------------------------------------------------------------------------


def test_a_feature_that_configure_disabled_fails_the_build(here: StandIn) -> None:
    here.prefix("slurm-1", {".spack/archived-files/config.h": "/* #undef HAVE_READLINE */\n"})
    log = "configure:4711: WARNING: unable to locate readline\n"
    here.prefix("slurm-1", {".spack/archived-files/config.log": log})
    with pytest.raises(BuildError, match="readline") as caught:
        built(here)
    assert caught.value.details == "configure: WARNING: unable to locate readline"


def test_a_recipe_that_keeps_no_config_h_fails_the_build(here: StandIn) -> None:
    shutil.rmtree(here.folder / "prefixes/slurm-1/.spack")
    with pytest.raises(BuildError, match="configure is unknown"):
        built(here)


def test_a_file_that_is_promised_and_missing_fails_the_build(here: StandIn) -> None:
    (here.folder / "prefixes/munge-1/sbin/munged").unlink()
    with pytest.raises(BuildError, match="munge"):
        built(here)


def test_tools_of_the_base_explain_no_library_and_the_users_externals_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = dict(LOCK["concrete_specs"])
    nodes[LZ4] = row("lz4", "1.9", external="/usr")
    nodes[OPENSSL] = row("openssl", "3.0", external="/usr")
    with stand_in(tmp_path, LOCK | {"concrete_specs": nodes}) as here:
        install_slurm(here)
        known = database(here.folder, **{SLURM: "slurm-1", MUNGE: "munge-1"})
        here.prefix(".spack-db", {"index.json": known})
        collected: list[Collected] = []

        def note(spack: Spack, lock: Lock) -> Collected:
            collected.append(collect(spack, lock))
            return collected[-1]

        monkeypatch.setattr(spack_build, "collect", note)
        made = built(here)
        packages = {p.name: p.external for p in collected[0].packages}
        assert packages == {"slurm": False, "munge": False, "lz4": True}
        assert record_of(made).externals == ("lz4@1.9",)
        assert RECORD["externals"]["packages"].keys() == {"cmake"}


# --- the index of the build cache ---------------------------------------------------------------


def entry(cache: Path, name: str, seconds: int) -> Path:
    path = cache / f"v3/manifests/spec/{name}/{name}-1.0-{name}.spec.manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (seconds, seconds))
    return path


def indexed(cache: Path, seconds: int, *names: str) -> Path:
    """An index that is sound and names these entries; returns what it leads to."""
    installs = {"external": {"in_buildcache": False}}
    installs |= {name: {"in_buildcache": True} for name in names}
    content = json.dumps({"database": {"version": "8", "installs": installs}})
    digest = hashlib.sha256(content.encode()).hexdigest()
    blob = cache / "blobs/sha256" / digest[:2] / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_text(content)
    index = cache / INDEX
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(json.dumps({"version": 3, "data": [{"checksum": digest}]}))
    os.utime(index, (seconds, seconds))
    return blob


def test_an_index_that_names_all_entries_is_left_alone(tmp_path: Path) -> None:
    assert index_is_current(tmp_path)
    entry(tmp_path, "a", 100)
    assert not index_is_current(tmp_path)
    indexed(tmp_path, 200, "a")
    assert index_is_current(tmp_path)
    entry(tmp_path, "b", 300)
    assert not index_is_current(tmp_path)


def test_an_index_that_names_an_entry_which_was_removed_is_made_again(tmp_path: Path) -> None:
    entry(tmp_path, "a", 100)
    entry(tmp_path, "b", 100).unlink()
    indexed(tmp_path, 200, "a", "b")
    assert not index_is_current(tmp_path)


def test_index_of_a_build_cache_that_was_emptied_goes(here: StandIn) -> None:
    cache = here.spack.job.settings.buildcache_dir
    indexed(cache, 200, "a")
    refresh_indexes(here.spack)
    assert not (cache / INDEX).exists()
    assert here.calls == []


def test_new_index_is_made_of_links_and_only_it_comes_out_of_the_instance(here: StandIn) -> None:
    cache = here.spack.job.settings.buildcache_dir
    entry(cache, "a", 100)
    old = indexed(cache, 50)
    refresh_indexes(here.spack)
    assert index_is_current(cache)
    copy = Path(here.spack.instance.build_dir) / "spack-index"
    assert here.calls == [f"buildcache update-index file://{copy}"]
    assert (copy / "v3/manifests/spec/a/a-1.0-a.spec.manifest.json").is_symlink()
    assert old.exists()
    refresh_indexes(here.spack)
    assert len(here.calls) == 1


def test_index_that_lists_what_the_build_cache_does_not_have_is_refused(here: StandIn) -> None:
    cache = here.spack.job.settings.buildcache_dir
    entry(cache, "a", 100)
    lying = here.folder / "update-index.py"
    lying.write_text(
        lying.read_text().replace("for digest in hashes", 'for digest in ("a", "evil")')
    )
    with pytest.raises(VerificationError, match="is refused") as caught:
        refresh_indexes(here.spack)
    assert "lists other packages" in caught.value.details
    assert not (cache / INDEX).exists()


# --- packages that Spack has built --------------------------------------------------------------


def described(lock: Lock, digest: str) -> list[Any]:
    """The rows of a package and all that it needs, as Spack pushes them."""
    needs = [need for need, _ in lock.nodes[digest].needs]
    return [lock.nodes[digest].row, *(row for need in needs for row in described(lock, need))]


def put_blob(cache: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    blob = cache / "blobs/sha256" / digest[:2] / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return digest


def pushed(cache: Path, lock: Lock, digest: str, content: bytes = b"a package") -> Path:
    """What Spack pushes of a package to a build cache; returns the entry."""
    node = lock.nodes[digest]
    rows = json.dumps({"spec": {"nodes": described(lock, digest)}})
    blobs = [put_blob(cache, content), put_blob(cache, gzip.compress(rows.encode()))]
    name = f"{node.name}-{node.version}-{node.hash}".replace("=", "_")
    path = cache / f"v3/manifests/spec/{node.name}/{name}.spec.manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 3, "data": [{"checksum": blob} for blob in blobs]}))
    return path


def blobs_in(cache: Path) -> list[Path]:
    return [path for path in (cache / "blobs").rglob("*") if path.is_file()]


@pytest.fixture
def lock() -> Lock:
    rows = {digest: {**row, "hash": digest} for digest, row in LOCK["concrete_specs"].items()}
    return read_lock(json.dumps(LOCK | {"concrete_specs": rows}))


def test_new_packages_come_into_the_build_cache_with_their_parts(here: StandIn, lock: Lock) -> None:
    made, cache = Path(here.spack.paths.packages), here.spack.job.settings.buildcache_dir
    wanted = [lock.nodes[LZ4], lock.nodes[MUNGE]]
    assert take_packages(here.spack, lock, wanted) == frozenset()
    path = pushed(made, lock, LZ4)
    assert take_packages(here.spack, lock, wanted) == {LZ4}
    kept = cache / path.relative_to(made)
    assert kept.read_text() == path.read_text()
    assert len(blobs_in(cache)) == 2
    assert not list(here.spack.work.glob("spack-entries-*"))
    assert [node.hash for node in missing_packages(here.spack, lock, frozenset())] == [SLURM, MUNGE]


def test_package_of_a_commit_whose_name_is_long_comes_too(here: StandIn) -> None:
    version = f"git.{'0' * 40}=1.10.0"
    rows = {LZ4: {**row("lz4", version), "hash": LZ4}}
    lock = read_lock(json.dumps(LOCK | {"roots": [{"hash": LZ4}], "concrete_specs": rows}))
    made, cache = Path(here.spack.paths.packages), here.spack.job.settings.buildcache_dir
    path = pushed(made, lock, LZ4)
    assert len(path.name) > 100
    assert take_packages(here.spack, lock, lock.packages) == {LZ4}
    assert (cache / path.relative_to(made)).is_file()


def test_valid_package_is_never_replaced_and_a_damaged_one_is(here: StandIn, lock: Lock) -> None:
    made, cache = Path(here.spack.paths.packages), here.spack.job.settings.buildcache_dir
    kept = pushed(cache, lock, LZ4, b"the first")
    text = kept.read_text()
    pushed(made, lock, LZ4, b"the second")
    take_packages(here.spack, lock, [lock.nodes[LZ4]])
    assert kept.read_text() == text
    for blob in blobs_in(cache):
        blob.write_bytes(b"damaged")
    assert lock.nodes[LZ4] in missing_packages(here.spack, lock, frozenset())
    take_packages(here.spack, lock, [lock.nodes[LZ4]])
    assert kept.read_text() != text


def wrong_parts(made: Path, lock: Lock) -> None:
    for path in blobs_in(made):
        path.write_bytes(b"something else")


def no_parts(made: Path, lock: Lock) -> None:
    for path in made.rglob("*.json"):
        path.write_text('{"data": []}')


def no_description(made: Path, lock: Lock) -> None:
    digest = put_blob(made, b"a package")
    for path in made.rglob("*.json"):
        path.write_text(json.dumps({"data": [{"checksum": digest}]}))


def redescribe(made: Path, rows: list[Any]) -> None:
    content = gzip.compress(json.dumps({"spec": {"nodes": rows}}).encode())
    digests = [put_blob(made, b"a package"), put_blob(made, content)]
    for path in made.rglob("*.json"):
        path.write_text(json.dumps({"data": [{"checksum": digest} for digest in digests]}))


def another_root(made: Path, lock: Lock) -> None:
    redescribe(made, described(lock, MUNGE))


def another_version(made: Path, lock: Lock) -> None:
    redescribe(made, [{**lock.nodes[LZ4].row, "version": "9.9.9"}])


def another_package_beside(made: Path, lock: Lock) -> None:
    evil = {**lock.nodes[MUNGE].row, "version": "9.9.9"}
    redescribe(made, [*described(lock, LZ4), evil])


def unknown_package_beside(made: Path, lock: Lock) -> None:
    redescribe(made, [*described(lock, LZ4), {**lock.nodes[MUNGE].row, "hash": "a" * 32}])


@pytest.mark.parametrize(
    "attack",
    [
        *(wrong_parts, no_parts, no_description, another_root, another_version),
        *(another_package_beside, unknown_package_beside),
    ],
)
def test_package_that_is_not_what_it_should_be_is_refused(
    here: StandIn, lock: Lock, attack: Callable[[Path, Lock], None]
) -> None:
    made = Path(here.spack.paths.packages)
    pushed(made, lock, LZ4)
    attack(made, lock)
    with pytest.raises(VerificationError, match="is refused"):
        take_packages(here.spack, lock, [lock.nodes[LZ4]])
    cache = here.spack.job.settings.buildcache_dir
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("elsewhere", ["in a remote cache", "in the local cache"])
def test_what_the_instance_prints_does_not_decide_what_is_taken(
    here: StandIn, lock: Lock, elsewhere: str
) -> None:
    pushed(Path(here.spack.paths.packages), lock, LZ4, b"forged")
    cache = here.spack.job.settings.buildcache_dir
    remote = frozenset({LZ4}) if elsewhere == "in a remote cache" else frozenset()
    if not remote:
        pushed(cache, lock, LZ4, b"ours")
    here.answers("install", f"{LZ4[:7]} lz4@1: staging\n{LZ4[:7]} lz4@1: finished\n")
    install(here.spack, lock, remote=remote)
    assert b"forged" not in [path.read_bytes() for path in blobs_in(cache)]


def test_package_that_cannot_be_taken_is_a_warning_and_no_failure_of_spack(
    here: StandIn, lock: Lock
) -> None:
    path = pushed(Path(here.spack.paths.packages), lock, LZ4)
    for blob in blobs_in(Path(here.spack.paths.packages)):
        blob.unlink()
    assert path.exists()
    here.answers("install", f"{LZ4[:7]} lz4@1: staging\n{LZ4[:7]} lz4@1: finished\n")
    install(here.spack, lock)
    assert "Not added to the build cache: lz4@1.10.0." in here.screen.getvalue()


STATES = ("staging", "finished")


def test_finished_packages_are_kept_at_once_and_after_a_failure_too(
    here: StandIn, lock: Lock
) -> None:
    for digest in (LZ4, MUNGE):
        pushed(Path(here.spack.paths.packages), lock, digest)
    lines = [f"{digest[:7]} x@1: {state}" for digest in (LZ4, MUNGE) for state in STATES]
    here.answers("install", "\n".join(lines) + "\n==> Error: no\n", 1)
    with pytest.raises(SpackError):
        install(here.spack, lock)
    cache = here.spack.job.settings.buildcache_dir
    assert len(list((cache / ENTRIES).rglob("*.json"))) == 2


def test_spack_decides_by_what_is_in_the_build_cache_now(here: StandIn) -> None:
    entry(here.spack.job.settings.buildcache_dir, "a", 100)
    built(here)
    names = [call.split()[0] for call in here.calls]
    assert names.index("buildcache") < names.index("concretize")


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: (cache / INDEX).write_text('{"ver'),
        lambda cache: (cache / INDEX).write_text("[]"),
        lambda cache: indexed(cache, 200, "a").write_text("b"),
        lambda cache: indexed(cache, 200, "a").unlink(),
    ],
)
def test_a_damaged_index_which_would_end_spack_is_made_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    entry(tmp_path, "a", 100)
    indexed(tmp_path, 200, "a")
    damage(tmp_path)
    assert not index_is_current(tmp_path)


def test_an_entry_that_cannot_be_read_is_reported(here: StandIn) -> None:
    cache = here.spack.job.settings.buildcache_dir
    entry(cache, "a", 100)
    place = f"file://{cache}/v3/manifests/spec/a/a-1.0-abc.spec.manifest.json"
    here.answers(
        "buildcache", f"==> Warning: Unable to fetch spec for manifest {place} due to: x\n"
    )
    refresh_indexes(here.spack)
    assert "entry a-1.0-abc is damaged" in here.screen.getvalue()
