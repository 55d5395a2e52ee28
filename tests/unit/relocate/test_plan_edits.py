"""Planned edits and the closure behind them, from facts alone."""

from pathlib import Path, PurePosixPath

import pytest
from relocate_toolkit import POLICY, Instance, answer, call, compile_elf

from slurm_factory.relocate.closure import Closure, collect
from slurm_factory.relocate.edits import Edit, plan_edits
from slurm_factory.relocate.elf import ElfFacts, ElfKind, FactsByPath
from slurm_factory.relocate.names import LibraryIndex, run_path_between, tagged, untagged

PLUGIN = PurePosixPath("lib/slurm/plug.so")
SLURM, PRIVATE = PurePosixPath("lib/slurm"), PurePosixPath("lib/private")


def plugin(
    *needed: str, run_path: tuple[str, ...] = (), runpath: bool = False, mentions: str = ""
) -> FactsByPath:
    facts = ElfFacts(
        path=Path("plug.so"),
        kind=ElfKind.SHARED,
        needed=needed,
        run_path=run_path,
        uses_runpath=runpath,
        mentions=frozenset(mentions.split()),
    )
    return {PLUGIN: facts}


def planned(facts: FactsByPath, **index: tuple[PurePosixPath, ...]) -> tuple[Edit, ...]:
    directories = {f"{name}.so": places for name, places in index.items()}
    return plan_edits(facts, LibraryIndex(directories), {}, POLICY)


def collected(facts: FactsByPath, folder: Path) -> Closure:
    return collect(facts, LibraryIndex({}), Instance(folder), POLICY)


def test_file_that_is_right_already_has_no_edit() -> None:
    assert planned(plugin("liba.so", run_path=("$ORIGIN",)), liba=(SLURM,)) == ()
    assert planned(plugin("libc.so.6")) == ()


def test_right_run_path_of_the_wrong_kind_is_an_edit() -> None:
    (edit,) = planned(plugin("liba.so", run_path=("$ORIGIN",), runpath=True), liba=(SLURM,))
    assert edit == Edit(PLUGIN, None, (), ("$ORIGIN",))


def test_run_path_that_nothing_needs_is_removed() -> None:
    (edit,) = planned(plugin("libc.so.6", run_path=("/opt/slurm/software/lib",)))
    assert edit.run_path == ()


def test_library_beside_the_file_comes_before_one_elsewhere() -> None:
    (edit,) = planned(plugin("liba.so"), liba=(PurePosixPath("lib"), SLURM))
    assert edit.run_path == ("$ORIGIN",)


def test_library_elsewhere_is_looked_for_in_lib_first() -> None:
    strange = PurePosixPath("a/strange/place")
    (edit,) = planned(plugin("liba.so"), liba=(strange, PRIVATE, PurePosixPath("lib")))
    assert edit.run_path == ("$ORIGIN/..",)


def test_renamed_library_is_needed_under_its_new_name() -> None:
    index = LibraryIndex({"libz-0123abcd.so.1": (PRIVATE,)})
    names = {"libz.so.1": "libz-0123abcd.so.1"}
    (edit,) = plan_edits(plugin("libz.so.1", "libc.so.6"), index, names, POLICY)
    replaced = (("libz.so.1", "libz-0123abcd.so.1"),)
    assert edit == Edit(PLUGIN, None, replaced, ("$ORIGIN/../private",))


def test_run_path_names_each_directory_once_and_the_nearest_first() -> None:
    places = [PRIVATE, PurePosixPath("lib"), SLURM, PRIVATE]
    assert run_path_between(SLURM, places) == ("$ORIGIN", "$ORIGIN/..", "$ORIGIN/../private")


@pytest.mark.parametrize("soname", ["libz.so.1", "libevent_core-2.1.so.7", "libnss3.so", "libodd"])
def test_tag_can_be_taken_off_again(soname: str) -> None:
    assert tagged(soname, b"content") != soname
    assert untagged(tagged(soname, b"content")) == soname
    assert untagged(soname) == soname


def test_libraries_that_need_each_other_come_once(tmp_path: Path) -> None:
    hollow = compile_elf(tmp_path / "hollow/libb.so.1", answer("b", "x"))
    first = compile_elf(tmp_path / "liba.so.1", call("a", "b"), [hollow])
    compile_elf(tmp_path / "libb.so.1", call("b", "a"), [first])
    closure = collected(plugin("liba.so.1"), tmp_path)
    assert [library.soname for library in closure.libraries] == ["liba.so.1", "libb.so.1"]


def test_library_opened_by_name_is_the_one_the_file_is_linked_to(tmp_path: Path) -> None:
    rule = POLICY.dlopened[0].model_copy(update={"sonames": ("libnamed.so.2", "libnamed.so.1")})
    policy = POLICY.model_copy(update={"dlopened": (rule,)})
    for name in rule.sonames:
        compile_elf(tmp_path / name, answer("named", name))
    facts = plugin("libnamed.so.1", mentions="libnamed.so libnamed.so.2")
    closure = collect(facts, LibraryIndex({}), Instance(tmp_path), policy)
    assert [library.soname for library in closure.libraries] == ["libnamed.so.1"]
    assert closure.opened_as == {"libnamed.so.1": {"libnamed.so", "libnamed.so.2"}}


def test_library_opened_by_name_that_the_tree_has_is_not_fetched(tmp_path: Path) -> None:
    index = LibraryIndex({"libnamed.so.2": (SLURM,)})
    closure = collect(plugin(mentions="libnamed.so.2"), index, Instance(tmp_path), POLICY)
    assert closure.libraries == ()
