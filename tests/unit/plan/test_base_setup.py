"""Plain directories as opposed to git repositories; the version in Spack's files."""

from dataclasses import replace
from pathlib import Path

import pytest
from git_samples import make_repository, write_files
from launch_samples import REFS, SETUP, SPACK_SETUP

from slurm_factory import resources
from slurm_factory.plan import base_setup as base_record
from slurm_factory.plan.base_setup import (
    base_packages,
    setup_digest,
    spack_digest,
    spack_version,
    unpacked_at,
    without_credentials,
)

VERSION_FILE = "lib/spack/spack/__init__.py"


def test_only_a_directory_without_git_counts_as_unpacked_files(tmp_path: Path) -> None:
    write_files(tmp_path / "plain files", {"a": "b"})
    make_repository(tmp_path / "git", {"a": "b"})
    assert unpacked_at(str(tmp_path / "plain files")) == tmp_path / "plain files"
    assert unpacked_at(f"file://{tmp_path}/plain%20files") == tmp_path / "plain files"
    for other in (tmp_path / "git", tmp_path / "gone", "https://git.example/spack.git"):
        assert unpacked_at(str(other)) is None


def test_a_directory_that_cannot_be_looked_into_is_left_to_those_who_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", refuse)
    assert unpacked_at(str(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    [
        '__version__ = "1.1.0"\nspack_version = __version__\n',  # 1.1
        '#: PEP440 canonical\n__version__ = "1.1.0"\n',
        "spack_version = '1.1.0'\n",
    ],
)
def test_the_version_that_spacks_files_tell_is_read(text: str, tmp_path: Path) -> None:
    write_files(tmp_path, {VERSION_FILE: text})
    assert spack_version(tmp_path) == "1.1.0"


def test_a_directory_that_shows_no_version_has_none(tmp_path: Path) -> None:
    assert spack_version(tmp_path) == ""
    write_files(tmp_path, {VERSION_FILE: "import os\n"})
    assert spack_version(tmp_path) == ""


def test_the_digest_of_a_system_base_is_still_the_one_of_bases_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else every base that users have would be made again after an update of this program."""
    monkeypatch.setattr(
        base_record, "packages_for", lambda *_, **__: ("libmunge-dev", "libpam0g-dev")
    )
    monkeypatch.setattr(base_record, "programs_for", lambda *_, **__: ())
    monkeypatch.setattr(resources, "script", lambda name: f"# {name}\n")
    assert setup_digest(SETUP) == "182c1eaded1c"


def test_a_system_base_does_not_change_with_anything_of_spack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = setup_digest(SETUP), setup_digest(SPACK_SETUP)
    original = resources.script
    monkeypatch.setattr(
        resources, "script", lambda name: original(name) + "#" * (name == "setup-spack.sh")
    )
    monkeypatch.setattr(base_record, "SPACK_TOOLS", ("gcc",))
    assert setup_digest(SETUP) == before[0]
    assert setup_digest(SPACK_SETUP) not in before


@pytest.mark.parametrize("changed", ["url", "ref", "packages_url", "packages_ref"])
def test_another_spack_or_other_recipes_make_another_base(changed: str) -> None:
    refs = replace(REFS, **{changed: "other"})
    assert setup_digest(replace(SPACK_SETUP, spack=refs)) != setup_digest(SPACK_SETUP)
    assert spack_digest(refs) != spack_digest(REFS)


def test_who_fetches_spack_makes_no_other_base() -> None:
    refs = replace(REFS, url="https://someone:else@git.example/spack")
    assert setup_digest(replace(SPACK_SETUP, spack=refs)) == setup_digest(SPACK_SETUP)


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://user:p@ss@host/x?a=b@c", "https://host/x?a=b@c"),
        ("https://host/x@y", "https://host/x@y"),
        ("/srv/spack@1", "/srv/spack@1"),
    ],
)
def test_user_names_and_passwords_are_taken_out_of_urls_and_nothing_else(
    url: str, redacted: str
) -> None:
    assert without_credentials(url) == redacted


def test_a_spack_base_has_tools_but_no_headers_of_libraries_that_spack_builds() -> None:
    packages = {*base_packages(SPACK_SETUP)}
    assert {"build-essential", "cmake", "gfortran", "libtool-bin", "python3"} <= packages
    assert not [name for name in packages if name.endswith("-dev")]


def test_a_spack_base_has_the_packages_that_the_users_externals_need() -> None:
    assert "libssl-dev" in base_packages(replace(SPACK_SETUP, packages=("libssl-dev",)))
