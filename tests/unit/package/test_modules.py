"""The module files under real Lmod and real Environment Modules."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from package_samples import IDENTITY
from paths import REPOSITORY
from pydantic import ValidationError

from slurm_factory.constants import BuildType
from slurm_factory.package import modules
from slurm_factory.package.licenses import write_identity
from slurm_factory.package.manifest import PackageIdentity

UNPACKED = Path(sys.prefix) / "share" / "module-systems"
NEWER = IDENTITY.model_copy(
    update={"version": "25.05", "release": "25.05.8", "spack_version": "25-05-8-1"}
)
GPU = IDENTITY.model_copy(
    update={"stem": "slurm-24.11-gpu-debian-12-system", "build_type": BuildType.GPU}
)
"""Another package of the same release."""
PATIENCE = 300
"""Seconds after which a shell that should end counts as one that does not."""
BOOKKEEPING = ("LOADEDMODULES", "_LMFILES_", "_ModuleTable", "__", "BASH_FUNC_", "SHLVL", "_=")
"""Starts of what the module systems keep for themselves, and bash."""


@dataclass(frozen=True)
class ModuleSystem:
    init: Path
    directory: str


SYSTEMS = {
    "lmod": ModuleSystem(Path("usr/share/lmod/lmod/init/bash"), "modules"),
    "tcl": ModuleSystem(Path("usr/share/modules/init/bash"), "modulefiles"),
}


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str


class Shell:
    """bash with one module system, in an environment of its own."""

    def __init__(self, system: ModuleSystem, init: Path, opt: Path) -> None:
        self.system = system
        self.opt = opt
        self._init = init

    @property
    def reads_other_files(self) -> bool:
        """Whether this is Lmod with a Tcl file."""
        return "lmod" in self.system.init.parts and self.system.directory == "modulefiles"

    def unpack(self, directory: Path, *identities: PackageIdentity) -> Path:
        """A module tarball's files, with the fixed places moved to where a test may write."""
        for identity in identities or (IDENTITY,):
            for path in modules.write_modules(identity, directory):
                text = path.read_text()
                for fixed in ("/opt/slurm/software", "/opt/software"):
                    text = text.replace(f"{fixed}", f"{self.opt}{fixed.removeprefix('/opt')}")
                path.write_text(text)
        return directory

    def run(self, at: Path, script: str, **environment: str | Path) -> Result:
        use = shlex.quote(str(at / self.system.directory))
        prelude = f". {shlex.quote(str(self._init))}; module use {use}"
        done = subprocess.run(
            ["bash", "--norc", "--noprofile", "-c", f"{prelude}\n{script}"],
            env={"HOME": str(self.opt), "PATH": "/usr/bin:/bin"}
            | {name: str(value) for name, value in environment.items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return Result(done.returncode, done.stdout, done.stderr)


def open_shell(name: str, directory: str, opt: Path) -> Shell:
    init = SYSTEMS[name].init
    for root in (UNPACKED, Path("/")):
        if (root / init).exists():
            return Shell(ModuleSystem(init, directory), root / init, opt)
    reason = (
        f"{name} is missing: slurm_factory/resources/verify/install-module-systems.sh {UNPACKED}"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(params=SYSTEMS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return open_shell(request.param, SYSTEMS[request.param].directory, tmp_path / "opt")


@pytest.fixture(params=[*SYSTEMS, "lmod with the Tcl file"])
def any_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    if request.param in SYSTEMS:
        return open_shell(request.param, SYSTEMS[request.param].directory, tmp_path / "opt")
    return open_shell("lmod", "modulefiles", tmp_path / "opt")


def make_tree(tree: Path, identity: PackageIdentity | None = IDENTITY) -> Path:
    for name in ("srun", "scontrol"):
        program = tree / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name} of {shlex.quote(str(tree))}\n")
        program.chmod(0o755)
    (tree / "share" / "man").mkdir(parents=True)
    if identity:
        write_identity(tree, identity)
    return tree


def own(environment: str) -> list[str]:
    """What `env` printed, without what the module systems keep there."""
    return sorted(line for line in environment.splitlines() if not line.startswith(BOOKKEEPING))


def variables(environment: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in own(environment) if "=" in line)


@pytest.mark.parametrize("prefix", ["plain", "with a space"])
def test_load_finds_srun_and_unload_takes_everything_back(
    shell: Shell, tmp_path: Path, prefix: str
) -> None:
    at = shell.unpack(tmp_path / prefix)
    tree = make_tree(at / "software")
    result = shell.run(
        at,
        "env; echo %%; module load slurm && srun && env; echo %%; module unload slurm && env",
        PATH="/usr/bin:/bin",
        CPATH="/mine",
        MANPATH="/a:/b",
        SLURM_ROOT="/was/there/before",
    )
    before, loaded, after = result.stdout.split("%%\n")
    assert loaded.startswith(f"srun of {tree}\n")
    assert own(after) == own(before)
    now = variables(loaded)
    assert now["PATH"] == f"{tree}/bin:{tree}/sbin:/usr/bin:/bin"
    assert now["CPATH"] == f"{tree}/include:/mine"
    assert now["LIBRARY_PATH"] == f"{tree}/lib"
    assert now["PKG_CONFIG_PATH"] == f"{tree}/lib/pkgconfig"
    assert now["CMAKE_PREFIX_PATH"] == now["SLURM_ROOT"] == now["SLURM_PREFIX"] == str(tree)
    assert (now["SLURM_VERSION"], now["SLURM_BUILD_TYPE"]) == ("24-11-5-1", "standard")
    assert not now.keys() & {"SLURM_CONF", "SLURM_INSTALL_PREFIX", "LD_LIBRARY_PATH"}


def test_lines_of_the_page_about_installing_lead_to_srun(shell: Shell, tmp_path: Path) -> None:
    package = tmp_path / "builds"
    package.mkdir()
    identity = NEWER.model_copy(update={"stem": "slurm-25.11", "version": "25.11"})
    make_tree(tmp_path / "made" / "software", identity)
    modules.write_modules(identity, tmp_path / "made")
    for kind, names in {"software": ("software",), "module": ("modules", "modulefiles")}.items():
        with tarfile.open(package / f"slurm-25.11-{kind}.tar.gz", "w:gz") as tarball:
            for name in names:
                tarball.add(tmp_path / "made" / name, name)
    page = (REPOSITORY / "docs/install.md").read_text()
    place = rf"/opt/slurm(?:/{shell.system.directory})?$"
    lines = re.findall(rf"^(?:mkdir|tar|module use) .*{place}", page, re.MULTILINE)
    lines += re.findall(r"^module load slurm/25.11$", page, re.MULTILINE)[:1]
    assert [line.split()[0] for line in lines] == ["mkdir", "tar", "tar", "module", "module"]
    script = "\n".join(lines).replace("slurm-25.11-", f"{package}/slurm-25.11-")
    script = script.replace("/opt/slurm", f"{shell.opt}/slurm")
    result = shell.run(tmp_path, f"{script}\ncommand -v srun")
    assert result.stdout == f"{shell.opt}/slurm/software/bin/srun\n", result.stderr


def test_places_are_searched_in_the_documented_order(shell: Shell, tmp_path: Path) -> None:
    given = tmp_path / "given"
    at = shell.unpack(tmp_path / "unpacked")
    places = (
        given,
        given / "software",
        at / "software",
        shell.opt / "slurm" / "software",
        shell.opt / "software",
    )
    for place in reversed(places):
        make_tree(place)
    step = "module load slurm && srun; module unload slurm; rm {}/bin/scontrol\n"
    script = "".join(step.format(shlex.quote(str(place))) for place in places)
    result = shell.run(at, script, SLURM_INSTALL_PREFIX=f"{given}/")
    assert result.stdout.splitlines() == [f"srun of {place}" for place in places], result.stderr


def test_tree_of_another_version_is_rejected_by_name(shell: Shell, tmp_path: Path) -> None:
    at = shell.unpack(tmp_path)
    tree = make_tree(at / "software", NEWER)
    explanation = f"holds {IDENTITY.stem} (Slurm 25.05.8)"
    result = shell.run(at, "env; echo %%; module load slurm; echo code=$?; env")
    before, _, after = result.stdout.partition("%%\n")
    assert after.startswith("code=1\n")
    assert own(after.removeprefix("code=1\n")) == own(before)
    message = " ".join(result.stderr.split())
    assert (
        f"this module is for {IDENTITY.stem} (Slurm 24.11.5), but {tree} {explanation}" in message
    )
    assert "set SLURM_INSTALL_PREFIX to the directory" in message


def test_another_package_of_the_same_release_is_not_taken(any_shell: Shell, tmp_path: Path) -> None:
    at = any_shell.unpack(tmp_path)
    make_tree(any_shell.opt / "slurm" / "software", GPU)
    result = any_shell.run(at, "env; echo %%; module load slurm; echo code=$?; env")
    before, _, after = result.stdout.partition("%%\n")
    assert after.startswith("code=1\n")
    assert own(after.removeprefix("code=1\n")) == own(before)
    message = " ".join(result.stderr.split())
    assert f"{any_shell.opt}/slurm/software holds {GPU.stem} (Slurm 24.11.5)" in message


def link_file(module: Path, site: Path) -> None:
    (site / module.parent.name).mkdir(parents=True)
    (site / module.parent.name / module.name).symlink_to(module)


def link_directory_of_file(module: Path, site: Path) -> None:
    site.mkdir(parents=True)
    (site / module.parent.name).symlink_to(module.parent)


def link_module_directory(module: Path, site: Path) -> None:
    site.parent.mkdir(parents=True)
    site.symlink_to(module.parents[1])


def link_parent(module: Path, site: Path) -> None:
    site.parent.symlink_to(module.parents[2])


def link_links(module: Path, site: Path) -> None:
    """A relative link to a file, on the way to which there is a link to a link."""
    site.parent.mkdir(parents=True)
    (site.parent / "hop").symlink_to(module.parents[2])
    (site.parent / "current").symlink_to("hop")
    (site / module.parent.name).mkdir(parents=True)
    target = Path("../../current", *module.parts[-3:])
    (site / module.parent.name / module.name).symlink_to(target)


LINKS = (link_file, link_directory_of_file, link_module_directory, link_parent, link_links)


def test_module_reached_through_a_link_finds_its_own_tree(any_shell: Shell, tmp_path: Path) -> None:
    """All kinds of links in one shell, which takes a second to start."""
    # A space in the path of a Tcl file is too much for Lmod itself (8.6).
    above = tmp_path / ("plain" if any_shell.reads_other_files else "with a space")
    script = ""
    for link in LINKS:
        at = any_shell.unpack(above / link.__name__ / "package")
        make_tree(at / "software")
        site = above / link.__name__ / "site"
        (module,) = (at / any_shell.system.directory).glob("slurm/*")
        link(module, site / any_shell.system.directory)
        if not site.is_symlink():
            make_tree(site / "software", GPU)
        use = shlex.quote(str(site / any_shell.system.directory))
        script += f"module use {use}; module load slurm && srun; echo $SLURM_ROOT\n"
        script += f"module unload slurm; module unuse {use}; echo %%; env; echo %%\n"
    make_tree(any_shell.opt / "slurm" / "software", GPU)
    result = any_shell.run(above, f"module unuse $MODULEPATH; env; echo %%\n{script}")
    before, *found, rest = result.stdout.split("%%\n")
    assert rest == ""
    for link, loaded, after in zip(LINKS, found[0::2], found[1::2], strict=True):
        tree = above / link.__name__ / "package" / "software"
        assert loaded == f"srun of {tree}\n{tree}\n", result.stderr
        assert own(after) == own(before), link


def test_unload_takes_back_the_tree_of_load_where_a_link_leads_elsewhere_now(
    any_shell: Shell, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        make_tree(any_shell.unpack(tmp_path / name) / "software")
    (tmp_path / "current").symlink_to("old")
    result = any_shell.run(
        tmp_path / "current",
        f"module load slurm; srun; ln -sfn new {tmp_path}/current; unset SLURM_ROOT\n"
        "module unload slurm; echo code=$?; env",
    )
    program, code, after = result.stdout.split("\n", 2)
    assert (program, code) == (f"srun of {tmp_path}/old/software", "code=0")
    assert result.stderr == ""
    assert variables(after)["PATH"] == "/usr/bin:/bin"


def test_lmod_works_where_the_current_directory_is_gone(tmp_path: Path) -> None:
    shell = open_shell("lmod", "modules", tmp_path / "opt")
    at = shell.unpack(tmp_path / "unpacked")
    tree = make_tree(at / "software")
    result = shell.run(
        at,
        'mkdir "$HOME/gone" && cd "$HOME/gone" && rmdir "$HOME/gone"\n'
        "module load slurm 2>/dev/null; command -v srun\n"
        "module unload slurm 2>/dev/null; command -v srun || echo unloaded",
        HOME=tmp_path,
    )
    assert result.stdout.splitlines() == [f"{tree}/bin/srun", "unloaded"], result.stderr


def test_load_without_any_tree_says_where_it_looked_and_the_rest_still_works(
    shell: Shell, tmp_path: Path
) -> None:
    at = shell.unpack(tmp_path)
    make_tree(at / "relative")
    result = shell.run(
        at,
        f"cd {at}; module load slurm; echo code=$?; for verb in avail whatis help show;"
        " do module $verb slurm 2>&1 || echo $verb failed; done; module unload slurm; echo done=$?",
        SLURM_INSTALL_PREFIX="relative",
    )
    message = " ".join(result.stderr.split())
    assert f"no Slurm found in relative {at}/software {shell.opt}/slurm/software" in message
    assert f"Unpack slurm-24.11-debian-12-system-software.tar.gz in {at}" in message
    assert result.stdout.startswith("code=1\n")
    assert result.stdout.endswith("done=0\n")
    assert "failed" not in result.stdout
    assert "slurm/24.11" in result.stdout
    assert "Slurm reads its configuration from /etc/slurm." in result.stdout
    assert "24.11.5" in result.stdout


def test_prefix_that_path_cannot_hold_is_rejected(shell: Shell, tmp_path: Path) -> None:
    at = shell.unpack(tmp_path / "unpacked")
    tree = make_tree(tmp_path / "a:b")
    result = shell.run(at, "module load slurm; echo code=$?", SLURM_INSTALL_PREFIX=tree)
    assert result.stdout == "code=1\n"
    assert "a colon separates the entries of PATH" in " ".join(result.stderr.split())


SINCE_LOAD = (
    "export SLURM_INSTALL_PREFIX=$OTHER",
    "unset SLURM_ROOT",
    "export SLURM_ROOT=/elsewhere",
    "export PATH=/usr/bin:/bin SLURM_INSTALL_PREFIX=$OTHER",
    "mv $TREE $TREE.moved",
)
"""What may have happened; each in a copy of one shell, which takes a second to start."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others have no levels")
def test_package_for_a_newer_cpu_is_refused_and_one_for_this_cpu_is_not(
    any_shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = IDENTITY.model_copy(update={"cpu": "x86_64_v2"})
    site = any_shell.unpack(tmp_path / "site", levels)
    make_tree(site / "software")
    assert any_shell.run(site, "module load slurm && command -v srun").code == 0
    monkeypatch.setattr(modules, "cpu_features", lambda _: ("sse4_2", "of_2040", "of_2041"))
    result = any_shell.run(
        any_shell.unpack(tmp_path / "site", levels), "module load slurm; command -v srun"
    )
    assert result.stdout == ""
    said = " ".join(result.stderr.split())
    assert "this package is for CPUs of x86_64_v2, and this one lacks of_2040 of_2041." in said
    assert "Traceback" not in said


def test_package_for_another_architecture_is_refused(any_shell: Shell, tmp_path: Path) -> None:
    other, here = sorted({"aarch64", "x86_64"}, key=platform.machine().__eq__)
    foreign = IDENTITY.model_copy(update={"arch": other, "cpu": other})
    site = any_shell.unpack(tmp_path / "site", foreign)
    make_tree(site / "software")
    result = any_shell.run(site, "module load slurm; command -v srun")
    assert result.stdout == ""
    said = " ".join(result.stderr.split())
    assert f"this package is for machines of {other}, and this one is of {here}." in said
    assert "Traceback" not in said


def test_unload_never_fails_whatever_happened_since_load(any_shell: Shell, tmp_path: Path) -> None:
    at = any_shell.unpack(tmp_path / "unpacked")
    tree = make_tree(tmp_path / "first" / "software")
    other = make_tree(tmp_path / "other" / "software")
    result = any_shell.run(
        at,
        "module load slurm\n"
        + "\n".join(
            f"({meanwhile}; module unload slurm; echo code=$?; env; echo %%)"
            for meanwhile in SINCE_LOAD
        ),
        SLURM_INSTALL_PREFIX=tree.parent,
        TREE=tree,
        OTHER=other,
    )
    assert result.stderr == ""
    *answers, rest = result.stdout.split("%%\n")
    assert (len(answers), rest) == (len(SINCE_LOAD), "")
    for meanwhile, answer in zip(SINCE_LOAD, answers, strict=True):
        code, _, after = answer.partition("\n")
        now = variables(after)
        assert (code, now["PATH"]) == ("code=0", "/usr/bin:/bin"), meanwhile
        assert not now.keys() & {"SLURM_ROOT", "SLURM_VERSION", "CPATH", "LIBRARY_PATH", "MANPATH"}


def test_loading_another_version_replaces_the_first(shell: Shell, tmp_path: Path) -> None:
    at = shell.unpack(tmp_path / "unpacked", IDENTITY, NEWER)
    old = make_tree(tmp_path / "old")
    new = make_tree(tmp_path / "new", NEWER)
    result = shell.run(
        at,
        f"env; echo %%; export SLURM_INSTALL_PREFIX={old}; module load slurm/24.11\n"
        f"SLURM_INSTALL_PREFIX={new}; module swap slurm slurm/25.05; srun; env; echo %%\n"
        "unset SLURM_INSTALL_PREFIX; module unload slurm; env",
    )
    before, swapped, after = result.stdout.split("%%\n")
    assert swapped.startswith(f"srun of {new}\n"), result.stderr
    assert variables(swapped)["PATH"] == f"{new}/bin:{new}/sbin:/usr/bin:/bin"
    assert variables(swapped)["SLURM_VERSION"] == "25-05-8-1"
    assert variables(swapped)["MANPATH"].rstrip(":") + ":" == f"{new}/share/man:"
    assert variables(swapped)["MANPATH"].endswith(":")
    assert own(after) == own(before)


def test_two_workload_managers_are_never_loaded_together(shell: Shell, tmp_path: Path) -> None:
    at = shell.unpack(tmp_path)
    make_tree(at / "software")
    for path, text in {
        "modules/pbs/1.lua": 'family("workloadmanager") setenv("PBS_ROOT", "x")',
        "modulefiles/pbs/1": "#%Module1.0\nfamily workloadmanager\nsetenv PBS_ROOT x",
    }.items():
        (at / path).parent.mkdir(parents=True)
        (at / path).write_text(text)
    result = shell.run(at, "module load pbs; module load slurm; echo ${PBS_ROOT+1}${SLURM_ROOT+1}")
    assert result.stdout == "1\n"


@pytest.mark.parametrize(
    ("found", "explanation"),
    [(False, "no Slurm found in"), (True, "holds a Slurm that is not from slurm-factory")],
)
def test_refusal_is_clean_whichever_system_reads_the_file(
    any_shell: Shell, tmp_path: Path, found: bool, explanation: str
) -> None:
    at = any_shell.unpack(tmp_path)
    if found:
        make_tree(at / "software", None)
    result = any_shell.run(at, "module load slurm; echo code=$?")
    assert result.stdout == "code=1\n"
    assert explanation in " ".join(result.stderr.split())
    for noise in ("while executing", "Please contact", "exist but cannot be loaded", "(file "):
        assert noise not in " ".join(result.stderr.split())


def test_lua_file_at_the_root_of_the_machine_still_explains_itself(tmp_path: Path) -> None:
    shell = open_shell("lmod", "modules", tmp_path / "opt")
    at = shell.unpack(tmp_path)
    for path in (at / "modules" / "slurm").iterdir():
        path.write_text(path.read_text().replace("myFileName()", '("/slurm/24.11.lua")'))
    refused = shell.run(at, "module load slurm; echo code=$?")
    assert refused.stdout == "code=1\n"
    assert f"no Slurm found in {shell.opt}/slurm/software" in " ".join(refused.stderr.split())
    make_tree(tmp_path / "given")
    loaded = shell.run(at, "module load slurm; srun", SLURM_INSTALL_PREFIX=tmp_path / "given")
    assert loaded.stdout == f"srun of {tmp_path}/given\n"


def test_lmod_that_reads_the_tcl_file_takes_everything_back_too(tmp_path: Path) -> None:
    shell = open_shell("lmod", "modulefiles", tmp_path / "opt")
    at = shell.unpack(tmp_path)
    tree = make_tree(at / "software")
    result = shell.run(at, "env; echo %%; module load slurm; srun; module unload slurm; env")
    before, loaded = result.stdout.split("%%\n")
    program, _, after = loaded.partition("\n")
    assert program == f"srun of {tree}"
    assert own(after) == own(before)


def test_the_systems_manual_pages_stay_reachable(shell: Shell, tmp_path: Path) -> None:
    if not shutil.which("manpath") and os.environ.get("CI") != "true":
        pytest.skip("man-db is missing: apt-get install man-db")
    at = shell.unpack(tmp_path)
    tree = make_tree(at / "software")
    result = shell.run(
        at,
        "manpath -q; module load slurm; manpath -q; module unload slurm; manpath -q",
        MANPATH="",
    )
    before, loaded, after = result.stdout.splitlines()
    assert "/usr/share/man" in before
    pages = list(dict.fromkeys(filter(None, loaded.split(":"))))
    assert pages == [f"{tree}/share/man", *before.split(":")]
    assert after == before


def test_manpath_that_others_changed_after_load_is_only_rid_of_our_entries(
    any_shell: Shell, tmp_path: Path
) -> None:
    """Each change in a copy of one shell, which takes a second to start."""
    at = any_shell.unpack(tmp_path)
    make_tree(at / "software")
    for path, text in {
        "modules/viewer/1.lua": 'prepend_path("MANPATH", "/viewer/man")',
        "modulefiles/viewer/1": "#%Module1.0\nprepend-path MANPATH /viewer/man",
    }.items():
        (at / path).parent.mkdir(parents=True)
        (at / path).write_text(text)
    changes = ("module load viewer", "export MANPATH=/viewer/man:$MANPATH", "module load slurm")
    cases = tuple(product(("unset MANPATH", "export MANPATH=/a:/b"), changes))
    result = any_shell.run(
        at,
        "\n".join(
            f'({first}; echo "$MANPATH"; module load slurm; {change}; module unload slurm; env'
            "; echo %%)"
            for first, change in cases
        ),
    )
    *answers, rest = result.stdout.split("%%\n")
    assert (len(answers), rest) == (len(cases), "")
    for (first, change), answer in zip(cases, answers, strict=True):
        before, _, after = answer.partition("\n")
        now = variables(after)
        expected = ["/viewer/man"] * ("viewer" in change) + [before] * bool(before)
        assert now.get("MANPATH", "") == ":".join(expected), (first, change)
        assert "SLURM_MODULE_MANPATH" not in now


def test_text_is_quoted_for_the_language_it_lands_in(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = 'a]] "b" $HOME [exec touch {tmp}/oops] ${{HOME}} \\n }} #{release}'.replace(
        "{tmp}", str(tmp_path)
    )
    monkeypatch.setattr(modules, "HELP", hostile)
    at = shell.unpack(tmp_path)
    result = shell.run(at, "module help slurm 2>&1")
    assert hostile.format(release="24.11.5") in result.stdout
    assert not (tmp_path / "oops").exists()


@pytest.mark.parametrize("version", ["../24.11", "24.11 x", "$(id)", "[id]", "-1", ""])
def test_version_that_is_not_a_plain_name_never_reaches_a_module(version: str) -> None:
    with pytest.raises(ValidationError):
        PackageIdentity(**IDENTITY.model_dump() | {"version": version})
