"""A package is built again, apart from it, and compared byte by byte."""

import gzip
import inspect
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from package_samples import ZLIB
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener
from reproduce_samples import (
    BASE,
    FILES,
    Builder,
    change_manifest,
    first_build,
    software,
    tamper,
)

from slurm_factory import answers, builder
from slurm_factory.config import Settings
from slurm_factory.exceptions import (
    BuildError,
    ConfigurationError,
    OutputError,
    VerificationError,
)
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import problem_with
from slurm_factory.plan.base_setup import write_record
from slurm_factory.reproduce import reproduce as reproducing
from slurm_factory.reproduce.again import Given
from slurm_factory.reproduce.differences import What
from slurm_factory.reproduce.reproduce import Reproduction, failure
from slurm_factory.workspace import prepare_cache

PLAN = sample_plan("24.11.5", backports=False)


class Site:
    """A machine with a package, and with a builder that stands for LXD."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self._monkeypatch = settings, monkeypatch
        self.reporter = Listener()

    def first(self, **made: Any) -> Path:
        """The manifest of the package; later builds make the same."""
        path, self.builder = first_build(PLAN, self.settings, **made)
        self._monkeypatch.setattr(builder, "build", self.builder.build)
        return path

    def reproduce(self, word: object, **given: Any) -> Reproduction:
        return reproducing.reproduce(str(word), Given(**given), self.settings, self.reporter)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    settings = sample_settings(tmp_path / "cache")
    prepare_cache(settings)
    monkeypatch.setattr(reproducing, "which", lambda _: None)
    return Site(settings, monkeypatch)


def content_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


def test_the_same_bytes_are_identical(site: Site) -> None:
    path = site.first()
    before = content_of(path.parent)
    found = site.reproduce("slurm-24.11.5-debian-12-system")
    assert (found.identical, found.causes, failure(found)) == (True, (), None)
    assert [file.identical for file in found.files] == [True, True]
    assert content_of(path.parent) == before
    assert [*site.settings.work_dir.glob("2*")] == []


def test_nothing_of_earlier_builds_is_taken(site: Site) -> None:
    path = site.first()
    for caches in (False, True):
        site.reproduce(path, caches=caches)
        ((plan, apart, lock),) = site.builder.asked
        site.builder.asked.clear()
        shared = [
            directory.is_relative_to(site.settings.work_dir)
            for directory in (apart.ccache_dir, apart.configure_dir, apart.buildcache_dir)
        ]
        assert shared == [not caches] * 3
        assert apart.builds_dir.is_relative_to(site.settings.work_dir)
        assert apart.source_cache_dir == site.settings.source_cache_dir
        assert (plan.stem, lock) == (PLAN.stem, "")


@pytest.mark.parametrize("hide", [False, True])
def test_a_changed_byte_is_named(site: Site, hide: bool) -> None:
    path = site.first()
    tamper(path, hide=hide)
    found = site.reproduce(path)
    tarball, module = found.files
    assert [(each.path, each.what, each.detail) for each in tarball.differences] == [
        ("software/bin/srun", What.CONTENT, "first at byte 5 of 6")
    ]
    assert (tarball.identical, module.identical, found.explained) == (False, True, False)
    assert bool(tarball.problem) == (not hide)
    error = failure(found)
    assert error is not None
    assert (error.exit_code, "Nothing that is known explains it" in error.resolution) == (6, True)


def test_what_was_built_is_kept_beside_the_log(site: Site) -> None:
    path = site.first()
    tamper(path)
    found = site.reproduce(path)
    assert found.kept == found.log.parent / "built-again"
    assert found.kept is not None
    kept = load_manifest(found.kept / path.name)
    assert problem_with(kept, found.kept) == ""


def test_another_base_explains_what_belongs_to_it(site: Site) -> None:
    crypto, zlib = "lib/private/libcrypto-0a1b2c3d.so.3", ZLIB.file
    bundled = (ZLIB, ZLIB.model_copy(update={"file": crypto, "package": "libssl3"}))
    path = site.first(files=FILES | {crypto: b"\0old", zlib: b"\0old"}, bundled=bundled)
    site.builder.base = {**BASE, "packages": {"libssl3:amd64": "3.0.21-1"}}
    site.builder.files |= {crypto: b"\0new", zlib: b"\0new"}
    found = site.reproduce(path)
    assert [str(cause) for cause in found.causes] == ["libssl3:amd64 3.0.20-1 → 3.0.21-1"]
    explained = {each.path: each.explained for each in found.files[0].differences}
    assert explained == {f"software/{crypto}": True, f"software/{zlib}": False}
    assert not found.explained


def test_another_base_is_told_before_the_build(site: Site) -> None:
    path = site.first()
    here = {**BASE, "packages": {"libssl3:amd64": "3.0.21-1"}}
    write_record(here, PLAN.setup, site.settings.images_dir)
    site.builder.base, site.builder.files["bin/srun"] = here, b"\0other"
    found = site.reproduce(path)
    (warning,) = site.reporter.warnings
    assert "The bases differ: libssl3:amd64 3.0.20-1 → 3.0.21-1." in warning
    assert found.explained
    error = failure(found)
    assert error is not None
    assert "may explain it" in error.resolution


def test_another_program_is_told_before_the_build(site: Site) -> None:
    path = site.first()
    manifest = load_manifest(path)
    change_manifest(path, slurm_factory="0.0.1", plan=manifest.plan | {"code": "f" * 64})
    found = site.reproduce(path)
    assert [cause.name for cause in found.causes] == ["slurm-factory", "code that packs"]
    assert "The plan differs: slurm-factory 0.0.1 → " in site.reporter.warnings[0]
    assert found.identical


def test_a_package_of_which_only_the_manifest_is_there(site: Site) -> None:
    path = site.first()
    for tarball in path.parent.glob("*.tar.gz"):
        tarball.unlink()
    assert site.reproduce(path).identical
    site.builder.files["bin/srun"] = b"other"
    found = site.reproduce(path)
    assert (found.identical, found.explained) == (False, False)
    assert [file.differences for file in found.files] == [(), ()]


def test_a_manifest_cannot_hide_a_file(site: Site) -> None:
    path = site.first()
    tamper(path)
    listed = [file for file in load_manifest(path).files if file.name != software(path).name]
    change_manifest(path, files=tuple(listed))
    tarball, module = site.reproduce(path).files
    assert tarball.problem == "its manifest does not list it"
    assert [each.path for each in tarball.differences] == ["software/bin/srun"]
    assert (tarball.identical, module.identical) == (False, True)


def test_the_text_names_files_and_causes(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.first()
    tamper(path, "etc/slurm.conf")
    answers.print_reproduction(site.reproduce(path), as_json=False)
    text = capsys.readouterr().out
    assert "slurm-24.11.5-debian-12-system: different\n" in text
    assert (
        'software/etc/slurm.conf: content: text, line 2: "b = 2\\x0b" → "b = 2" (unexplained)'
        in text
    )
    assert "but its manifest says that its SHA-256 is" in text
    assert "Nothing else is known to differ" in text


def test_the_document_has_all_of_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.first()
    tamper(path)
    answers.print_reproduction(site.reproduce(path), as_json=True)
    found = json.loads(capsys.readouterr().out)["reproduction"]
    assert (found["identical"], found["explained"], found["caches"]) == (False, False, False)
    assert found["files"][0]["differences"] == [
        {
            "path": "software/bin/srun",
            "what": "content",
            "detail": "first at byte 5 of 6",
            "explained": False,
        }
    ]


def test_a_hostile_tarball_is_refused(site: Site) -> None:
    path = site.first()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo("software/../../outside")
        archive.addfile(member, io.BytesIO())
    software(path).write_bytes(gzip.compress(plain.getvalue()))
    with pytest.raises(VerificationError, match="is refused"):
        site.reproduce(path)


def test_a_tarball_without_a_manifest_cannot_be_built(site: Site) -> None:
    path = site.first()
    tarball = software(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="has no manifest"):
        site.reproduce(tarball)
    assert site.builder.asked == []


def test_a_wrong_manifest_is_refused_before_anything_is_built(site: Site) -> None:
    path = site.first()
    path.write_text("{}")
    with pytest.raises(OutputError):
        site.reproduce(path)
    assert site.builder.asked == []


def test_a_failed_build_leaves_the_package(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.first()
    before = content_of(path.parent)

    def fail(*_: object, **__: object) -> None:
        raise BuildError("make failed.")

    monkeypatch.setattr(builder, "build", fail)
    with pytest.raises(BuildError):
        site.reproduce(path)
    assert content_of(path.parent) == before


Script = Callable[[str], None]


@pytest.fixture
def diffoscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Installs a script as diffoscope."""
    program = tmp_path / "diffoscope"

    def install(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(reproducing, "which", lambda _: program)

    return install


def test_diffoscope_writes_beside_the_log(site: Site, diffoscope: Script) -> None:
    diffoscope('[ -f "$3" ] && [ -f "$4" ] && echo found > "$2"; exit 1')
    path = site.first()
    tamper(path)
    found = site.reproduce(path)
    (report,) = found.diffoscope
    assert (report.parent, report.read_text()) == (found.log.parent, "found\n")


@pytest.mark.parametrize("script", ["exit 2", "kill -9 $$", "exit 0", "sleep 60", "exit 1"])
def test_a_failure_of_diffoscope_is_none(
    site: Site, diffoscope: Script, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(reproducing, "DIFFOSCOPE_SECONDS", 1.0)
    diffoscope(script)
    path = site.first()
    tamper(path)
    found = site.reproduce(path)
    assert (found.diffoscope, found.identical) == ((), False)
    assert "diffoscope failed" in site.reporter.lines[-1]


def test_the_builder_of_these_tests_takes_what_the_real_one_takes() -> None:
    real, ours = (inspect.signature(each).parameters for each in (builder.build, Builder().build))
    assert [*real] == [*ours]


def test_a_directory_of_another_machine_is_looked_into(site: Site, tmp_path: Path) -> None:
    """What somebody has copied, and nobody has published here."""
    path = site.first()
    shutil.copytree(path.parent, tmp_path / "copy")
    shutil.rmtree(site.settings.builds_dir)
    assert site.reproduce(tmp_path / "copy" / path.name).identical
    assert not site.settings.builds_dir.exists() or not any(site.settings.builds_dir.iterdir())
