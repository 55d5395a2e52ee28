"""The user's own patches."""

from pathlib import Path

import pytest

from slurm_factory.exceptions import ConfigurationError, OutputError
from slurm_factory.fetch.site_patches import LARGEST, read_site_patches

DIFF = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


def refusal(*paths: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read_site_patches(paths)
    return caught.value


def patch(path: Path, content: bytes = DIFF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_and_quilt_series_are_read_in_their_order(tmp_path: Path) -> None:
    series = tmp_path / "patches"
    for name in ("b.patch", "a.patch", "sub/c.diff", "unlisted.patch"):
        patch(series / name)
    (series / "series").write_text("# ours\nb.patch\n\na.patch -p1 # a comment\nsub/c.diff\n")
    alone = patch(tmp_path / "last.patch", DIFF + b"more")
    found = read_site_patches([series, alone])
    assert [each.name for each in found] == ["b.patch", "a.patch", "c.diff", "last.patch"]
    assert found[-1].content == DIFF + b"more"


def test_series_for_another_level_is_refused(tmp_path: Path) -> None:
    patch(tmp_path / "a.patch")
    (tmp_path / "series").write_text("a.patch -p0\n")
    error = refusal(tmp_path)
    assert "-p0" in error.brief
    assert "quilt refresh -p1" in error.resolution


def test_directory_without_a_series_is_refused(tmp_path: Path) -> None:
    patch(tmp_path / "a.patch")
    assert "without a series" in refusal(tmp_path).brief


def test_missing_patch_is_named(tmp_path: Path) -> None:
    assert "missing.patch" in refusal(tmp_path / "missing.patch").brief
    (tmp_path / "series").write_text("missing.patch\n")
    assert "missing.patch" in refusal(tmp_path).brief


@pytest.mark.parametrize("name", ["a b.patch", "a\nb.patch", "-a.patch", "$(id).patch", "ü.patch"])
def test_name_that_a_shell_would_change_is_refused(tmp_path: Path, name: str) -> None:
    assert "name of the patch" in refusal(patch(tmp_path / name)).brief


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\x00", b"--- a/x\n"])
def test_file_that_is_no_patch_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is not a patch" in refusal(patch(tmp_path / "a.patch", content)).brief


def test_file_without_end_is_not_read_whole(tmp_path: Path) -> None:
    large = patch(tmp_path / "a.patch", DIFF + bytes(LARGEST))
    assert "4 MiB" in refusal(large).details
    assert "is no file" in refusal(Path("/dev/zero")).details


def test_unreadable_patch_is_an_output_error(tmp_path: Path) -> None:
    unreadable = patch(tmp_path / "a.patch")
    unreadable.chmod(0)
    try:
        unreadable.read_bytes()
    except PermissionError:
        with pytest.raises(OutputError, match="could not be read"):
            read_site_patches([unreadable])
    else:
        pytest.skip("root reads everything")
