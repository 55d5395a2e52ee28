"""Trees of real ELF files are relocated, moved and run."""

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from relocate_toolkit import (
    Instance,
    answer,
    call,
    compile_elf,
    make_common,
    make_instance,
    make_tree,
    relocate_with,
)

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import scan
from slurm_factory.relocate.names import tagged, untagged
from slurm_factory.relocate.relocate import Relocation


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_instance(tmp_path_factory.mktemp("instance"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, instance: Path) -> Path:
    return make_tree(tmp_path_factory.mktemp("built") / "software", instance)


@pytest.fixture
def staged(tmp_path: Path, built: Path) -> Path:
    return shutil.copytree(built, tmp_path / "stage/software")


@pytest.fixture
def relocation(staged: Path, instance: Path) -> Relocation:
    return relocate_with(staged, Instance(instance))


@pytest.fixture
def moved(tmp_path: Path, staged: Path, relocation: Relocation) -> Path:
    return staged.rename(tmp_path / "a new home")


def run(program: Path, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def contents(tree: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in sorted(tree.rglob("*")) if path.is_file())
    return {str(path.relative_to(tree)): (path.stat().st_mode, path.read_bytes()) for path in files}


def test_unrelocated_tree_does_not_run(staged: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(staged / "bin/tool")


def test_moved_tree_runs_with_an_empty_environment_at_a_path_with_a_space(moved: Path) -> None:
    assert run(moved / "bin/tool") == ["ours", "ours", "ours"]


def test_library_path_of_a_user_cannot_put_another_library_in(tmp_path: Path, moved: Path) -> None:
    hostile = tmp_path / "hostile"
    make_common(hostile, "hostile")
    for function, *names in (
        ("direct", "libdirect.so.1"),
        ("deep", "libdeep.so.1"),
        ("engine", "libengine.so"),
        ("named", "libnamed.so.2", "libnamed.so"),
    ):
        for name in names:
            compile_elf(hostile / name, answer(function, "hostile"))
    for tagged_library in (moved / "lib/private").glob("*-*.so.*"):
        shutil.copy(hostile / untagged(tagged_library.name), hostile / tagged_library.name)
    assert run(moved / "bin/tool", LD_LIBRARY_PATH=str(hostile)) == ["ours", "ours", "ours"]


def test_module_of_the_machine_does_not_bind_to_a_bundled_library_of_the_same_soname(
    tmp_path: Path, moved: Path
) -> None:
    host = make_common(tmp_path / "host", "host's")
    options = [f"-Wl,-rpath,{host.parent}"]
    module = compile_elf(tmp_path / "host/pam.so", call("module", "common"), [host], options)
    assert run(moved / "bin/tool", str(module)) == ["ours", "ours", "ours", "host's"]


def test_bundled_library_does_not_bind_to_one_of_the_machine_already_loaded(
    tmp_path: Path, moved: Path
) -> None:
    preloaded = make_common(tmp_path / "host", "host's").parent / "libcommon.so.1"
    code = f"""
    #include <dlfcn.h>
    #include <stdio.h>
    int main(void) {{
      dlopen("{preloaded}", RTLD_NOW);
      void *plugin = dlopen("{moved}/lib/slurm/plug.so", RTLD_LAZY);
      puts(((const char *(*)(void))dlsym(plugin, "plug"))());
      return 0;
    }}"""
    assert run(compile_elf(tmp_path / "sshd", code)) == ["ours"]


def test_same_input_gives_the_same_bytes(
    tmp_path: Path, built: Path, instance: Path, staged: Path, relocation: Relocation
) -> None:
    again = shutil.copytree(built, tmp_path / "elsewhere/software")
    relocate_with(again, Instance(instance))
    assert contents(again) == contents(staged)


def test_second_run_changes_nothing(staged: Path, instance: Path, relocation: Relocation) -> None:
    once = contents(staged)
    relocate_with(staged, Instance(instance))
    assert contents(staged) == once


def test_tag_follows_the_content_of_the_library(instance: Path, relocation: Relocation) -> None:
    common = next(item for item in relocation.bundled if item.library.soname == "libcommon.so.1")
    content = (instance / "libcommon.so.1").read_bytes()
    assert common.path.name == tagged("libcommon.so.1", content)
    assert tagged("libcommon.so.1", b"") != common.path.name


def test_library_opened_by_name_keeps_its_name_and_answers_to_every_name_tried(
    staged: Path, relocation: Relocation
) -> None:
    private = staged / "lib/private"
    assert not (private / "libnamed.so.2").is_symlink()
    assert (private / "libnamed.so").readlink() == Path("libnamed.so.2")
    assert [item.library.soname for item in relocation.bundled if not item.tagged] == [
        "libnamed.so.2"
    ]


def test_linked_library_that_another_file_opens_by_name_keeps_its_name(
    staged: Path, instance: Path
) -> None:
    opener = 'void *dlopen(const char *, int); void *f(void) { return dlopen("libdeep.so.1", 1); }'
    compile_elf(staged / "lib/slurm/opener.so", opener)
    relocate_with(staged, Instance(instance))
    assert (staged / "lib/private/libdeep.so.1").is_file()
    assert scan(staged)[PurePosixPath("lib/slurm/opener.so")].run_path == ("$ORIGIN/../private",)


def test_plugin_directory_travels_with_the_library_that_loads_it(
    staged: Path, relocation: Relocation
) -> None:
    extra = scan(staged)[PurePosixPath("lib/private/common/plugin/extra.so")]
    assert extra.run_path == ("$ORIGIN/../..",)
    assert [untagged(name) for name in extra.needed] == ["libdeep.so.1", "libc.so.6"]
    assert extra.needed[0] != "libdeep.so.1"


def test_every_file_gets_only_the_run_path_that_it_needs(
    staged: Path, relocation: Relocation
) -> None:
    facts = {str(path): elf for path, elf in scan(staged).items()}
    assert facts["bin/tool"].run_path == ("$ORIGIN/../lib/slurm",)
    assert facts["bin/alone"].run_path == ()
    assert facts["lib/slurm/libengine.so"].run_path == ("$ORIGIN/../private",)
    assert not any(elf.uses_runpath for elf in facts.values())


def test_own_libraries_of_the_tree_keep_their_names(staged: Path, relocation: Relocation) -> None:
    assert (staged / "lib/slurm/libengine.so").is_file()
    assert "libengine.so" in scan(staged)[PurePosixPath("bin/tool")].needed


def test_file_that_is_right_already_is_not_rewritten(staged: Path, instance: Path) -> None:
    before = (staged / "bin/alone").read_bytes()
    relocate_with(staged, Instance(instance))
    assert (staged / "bin/alone").read_bytes() == before


def test_instance_is_not_asked_for_what_stays_outside(staged: Path, instance: Path) -> None:
    source = Instance(instance)
    relocate_with(staged, source)
    assert "libc.so.6" not in source.asked
    assert "libengine.so" not in source.asked
    assert len(source.asked) == len(set(source.asked))


def test_missing_library_is_reported_with_the_file_that_needs_it(
    staged: Path, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError) as caught:
        relocate_with(staged, Instance(tmp_path))
    assert caught.value.brief == "The library libdirect.so.1 is missing."
    assert "lib/slurm/libengine.so" in caught.value.details


def test_missing_library_leaves_the_tree_as_it_was(staged: Path, tmp_path: Path) -> None:
    before = contents(staged)
    with pytest.raises(VerificationError):
        relocate_with(staged, Instance(tmp_path))
    assert contents(staged) == before


def test_read_only_files_are_rewritten_and_get_the_mode_that_is_shipped(
    staged: Path, instance: Path
) -> None:
    (staged / "lib/slurm/plug.so").chmod(0o555)
    (staged / "bin/tool").chmod(0o4511)
    relocate_with(staged, Instance(instance))
    assert (staged / "lib/slurm/plug.so").stat().st_mode & 0o7777 == 0o755
    assert (staged / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert os.access(staged / "bin/tool", os.X_OK)


def test_files_from_the_instance_are_left_alone(instance: Path, staged: Path) -> None:
    before = contents(instance)
    relocate_with(staged, Instance(instance))
    assert contents(instance) == before
