"""Which directories slurm-factory takes as its cache directory, and what it refuses."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_lxc import install_fake_lxc
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.cache_dir import MARK, TAG, is_marked, make_cache_dir, require_ours
from slurm_factory.clean import CleanRequest, plan_clean
from slurm_factory.config import Settings
from slurm_factory.exceptions import OutputError
from slurm_factory.util.locks import take_if_free
from slurm_factory.workspace import open_workspace, prepare_cache

SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""What a CACHEDIR.TAG begins with: https://bford.info/cachedir/"""
DIRECTORIES = [path.name for path in Settings(cache_dir=Path("/c")).directories]


@pytest.fixture(autouse=True)
def no_lxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lxc = install_fake_lxc(tmp_path / "bin", monkeypatch)
    lxc.projects("default")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def refusal(settings: Settings, act: Callable[[Settings], object] = prepare_cache) -> OutputError:
    with pytest.raises(OutputError) as caught:
        act(settings)
    assert str(settings.cache_dir) in caught.value.brief
    return caught.value


def clean(settings: Settings) -> object:
    return plan_clean(CleanRequest(), settings, datetime.now(UTC))


def test_a_new_directory_is_for_its_owner_alone_and_has_both_marks(settings: Settings) -> None:
    prepare_cache(settings)
    assert mode(settings.cache_dir) == 0o700
    assert is_marked(settings.cache_dir)
    assert (settings.cache_dir / TAG).read_bytes()[: len(SIGNATURE)] == SIGNATURE


def test_every_directory_below_it_is_known(settings: Settings) -> None:
    properties = [name for name, kind in vars(Settings).items() if isinstance(kind, property)]
    named = {getattr(settings, name) for name in properties if name.endswith("_dir")}
    # What builds have made lies in the cache directory itself, except when one is reproduced.
    assert named - {settings.results_dir} == {*settings.directories}


def test_an_empty_directory_becomes_a_cache_and_keeps_its_mode(settings: Settings) -> None:
    settings.cache_dir.mkdir(mode=0o755)
    prepare_cache(settings)
    assert mode(settings.cache_dir) == 0o755
    assert is_marked(settings.cache_dir)


def test_a_new_file_system_counts_as_empty(settings: Settings) -> None:
    (settings.cache_dir / "lost+found").mkdir(parents=True)
    prepare_cache(settings)
    assert is_marked(settings.cache_dir)


@pytest.mark.parametrize("act", [prepare_cache, clean])
def test_a_directory_with_other_things_in_it_is_refused_and_left_as_it_is(
    settings: Settings, act: Callable[[Settings], object]
) -> None:
    thesis = settings.cache_dir / "work/thesis"
    thesis.mkdir(parents=True)
    settings.cache_dir.chmod(0o755)
    error = refusal(settings, act)
    assert "not empty" in error.details
    assert [path.name for path in settings.cache_dir.iterdir()] == ["work"]
    assert thesis.exists()
    assert mode(settings.cache_dir) == 0o755


def test_the_command_in_the_refusal_makes_an_older_cache_ours_again(
    tmp_path: Path,
) -> None:
    settings = sample_settings(tmp_path / "my cache")
    (settings.cache_dir / "builds/25.05").mkdir(parents=True)
    command = refusal(settings).resolution.split("`")[1]
    subprocess.run(["bash", "-c", command], check=True)
    prepare_cache(settings)
    assert (settings.cache_dir / TAG).exists()
    clean(settings)


def test_a_tag_that_was_removed_for_the_sake_of_backups_stays_away(settings: Settings) -> None:
    prepare_cache(settings)
    (settings.cache_dir / TAG).unlink()
    prepare_cache(settings)
    assert not (settings.cache_dir / TAG).exists()


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_only_has_the_name_of_the_mark_is_none(settings: Settings, kind: str) -> None:
    mark = settings.cache_dir / MARK
    settings.cache_dir.mkdir()
    if kind == "link":
        mark.symlink_to("/etc/hostname")
    else:
        mark.mkdir()
    refusal(settings)


@pytest.mark.parametrize("bits", [0o777, 0o775, 0o1777, 0o702])
def test_a_directory_that_others_may_write_to_is_refused_and_keeps_its_mode(
    settings: Settings, bits: int
) -> None:
    settings.cache_dir.mkdir()
    settings.cache_dir.chmod(bits)
    error = refusal(settings)
    assert f"mode is {bits:o}" in error.details
    assert f"chmod go-w {settings.cache_dir}" in error.resolution
    assert mode(settings.cache_dir) == bits & 0o777


@pytest.mark.parametrize("act", [prepare_cache, clean])
def test_a_directory_of_somebody_else_is_refused(
    settings: Settings, act: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_cache(settings)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert "belongs to the user" in refusal(settings, act).details


@pytest.mark.parametrize("name", DIRECTORIES)
@pytest.mark.parametrize("act", [prepare_cache, clean])
def test_a_link_in_place_of_a_directory_is_refused(
    settings: Settings, tmp_path: Path, act: Callable[[Settings], object], name: str
) -> None:
    prepare_cache(settings)
    place = settings.cache_dir / name
    if place.exists():
        place.rmdir()
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    error = refusal(settings, act)
    assert f"{place} is a link" in error.details
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_the_cache_directory_itself_may_be_a_link(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    settings.cache_dir.symlink_to(tmp_path / "large disk")
    prepare_cache(settings)
    assert is_marked(tmp_path / "large disk")
    require_ours(settings)


def test_two_commands_that_make_it_at_once_both_take_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def late(path: Path, *arguments: Any, **named: Any) -> None:
        if path == settings.cache_dir and not path.exists():
            monkeypatch.setattr(Path, "mkdir", make)
            make_cache_dir(settings)
        make(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", late)
    make_cache_dir(settings)
    assert is_marked(settings.cache_dir)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.write_text"])
def test_marking_that_was_broken_off_is_done_by_the_next_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(step, killed)
        with pytest.raises(KilledError):
            make_cache_dir(settings)
    prepare_cache(settings)
    assert (settings.cache_dir / MARK).read_text()
    assert (settings.cache_dir / TAG).read_bytes().startswith(SIGNATURE)


def test_a_running_build_keeps_the_lock_of_the_directory_from_who_wants_it_alone(
    settings: Settings,
) -> None:
    mark = settings.cache_dir / MARK
    with open_workspace("a", settings), open_workspace("b", settings), take_if_free(mark) as alone:
        assert not alone
    with take_if_free(mark) as alone:
        assert alone


def test_a_build_that_waits_for_clean_says_so(settings: Settings) -> None:
    prepare_cache(settings)
    with ExitStack() as cleaning:
        assert cleaning.enter_context(take_if_free(settings.cache_dir / MARK))
        listener = Listener(lambda _: cleaning.close())
        with open_workspace("a", settings, listener):
            assert listener.notes == [
                "Waiting for slurm-factory clean, which removes what builds share"
            ]


def test_a_directory_that_is_gone_is_made_again(settings: Settings) -> None:
    prepare_cache(settings)
    shutil.rmtree(settings.cache_dir)
    prepare_cache(settings)
    assert is_marked(settings.cache_dir)
