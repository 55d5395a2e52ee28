"""Completion as shells do it: interactive ones on a terminal of their own, and the Tab key."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_factory import completion, resources

PROGRAMS = str(Path(sys.executable).parent)
SHOW = """slurm-factory() { printf '<%s>' "$@"; echo; }"""
"""Stands for the program when a line is run, and not when it is asked for completions."""
RUN = re.compile(r"<[a-z]+>(<[^<>]*>)*$")
END = "--that-was-all--"


BUILDS = ("slurm-24.11", "slurm-24.11-gpu", "slurm-25.05")
ZSH = """
autoload -Uz compinit && compinit -u -D
unsetopt zle_bracketed_paste prompt_cr prompt_sp
setopt no_list_beep no_auto_list
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory with finished builds, of which completion only looks at the names."""
    cache = tmp_path_factory.mktemp("cache")
    for name in BUILDS:
        manifest = cache / "builds" / name[6:11] / f"{name}-manifest.json"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text("{")
    return cache


def environment(home: Path, cache: Path) -> dict[str, str]:
    own = {"HOME": str(home), "TERM": "dumb", "SLURM_FACTORY_CACHE_DIR": str(cache)}
    return {**os.environ, **own, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}


def completion_script(shell: str) -> str:
    """What the program prints in this shell."""
    start = [shell, "-c", f"{PROGRAMS}/slurm-factory --show-completion; true"]
    return subprocess.check_output(start, text=True)


@contextmanager
def shell_on_a_terminal(command: list[str], home: Path, cache: Path) -> Iterator[int]:
    """Descriptor of the terminal of a shell."""
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(home, cache),
        start_new_session=True,
    ) as process:
        os.close(terminal)
        yield ours
        process.kill()
    os.close(ours)


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[int]:
    """Descriptor of the terminal of a bash that has the completion script."""
    home = tmp_path_factory.mktemp("home")
    script = completion_script("bash")
    (home / ".inputrc").write_text("set bell-style none\nset enable-bracketed-paste off\n")
    (home / ".bashrc").write_text(f"PS1=\n{script}\n{SHOW}\n")
    command = ["bash", "--rcfile", str(home / ".bashrc"), "-i"]
    with shell_on_a_terminal(command, home, cache) as terminal:
        yield terminal


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[int]:
    """Descriptor of the terminal of a zsh that has the completion script."""
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh here")
    home = tmp_path_factory.mktemp("home")
    (home / ".zshrc").write_text(f"PROMPT=\n{ZSH}\n{completion_script('zsh')}\n{SHOW}\n")
    with shell_on_a_terminal(["zsh", "-d", "-i"], home, cache) as terminal:
        yield terminal


def typed(terminal: int, keys: str) -> list[str]:
    """The arguments that the program is run with after `keys` have been pressed."""
    os.write(terminal, f"{keys}\necho {END[:5]}''{END[5:]}\n".encode())
    screen = ""
    with suppress(OSError):
        while f"{END}\r\n" not in screen:
            screen += os.read(terminal, 4096).decode()
    lines = [found for line in screen.splitlines() if (found := RUN.search(line))]
    return lines[-1][0].strip("<>").split("><")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("keys", "arguments"),
    [
        ("--base deb\t", ["--base", "debian@1"]),
        ("--base debian@\t", ["--base", "debian@1"]),
        ("--base ubuntu@24\t", ["--base", "ubuntu@24.04"]),
        ("--base=ubuntu@24\t", ["--base=ubuntu@24.04"]),
        ("--base=sa\t", ["--base=same"]),
        ("--base debian@12 --deps sy\t", ["--base", "debian@12", "--deps", "system"]),
        ('--additional-variants "+hdf5 ~rea\t', ["--additional-variants", "+hdf5 ~readline"]),
    ],
)
def test_bash_completes_words_that_it_splits_itself(
    bash: int, keys: str, arguments: list[str]
) -> None:
    assert typed(bash, f"slurm-factory build {keys}") == ["build", *arguments]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("keys", "last"),
    [
        ("--on debian@11\t", "debian@11"),
        ("--on ubuntu@24\t", "ubuntu@24.04"),
        ("--on debian@11,ubuntu@24\t", "debian@11,ubuntu@24.04"),
    ],
)
def test_bash_completes_the_last_of_several_distributions(bash: int, keys: str, last: str) -> None:
    assert typed(bash, f"slurm-factory verify x {keys}") == ["verify", "x", "--on", last]


VALUES = [
    ("show slurm-25\t", ["show", "slurm-25.05"]),
    (
        "show --compare slurm-25\tslurm-24.11-\t",
        ["show", "--compare", "slurm-25.05", "slurm-24.11-gpu"],
    ),
    ("clean slurm-24.11-\t", ["clean", "slurm-24.11-gpu"]),
    ("verify slurm-25\t", ["verify", "slurm-25.05"]),
    ("settings cpu\t", ["settings", "cpu_limit"]),
    ("settings cpu\tspack_bas\t", ["settings", "cpu_limit", "spack_base_packages"]),
    ("build --slurm-version late\t", ["build", "--slurm-version", "latest"]),
    ("build --glibc 2.28\t", ["build", "--glibc", "2.28"]),
    ("deploy --plan-upgrade 23.0\t26\t", ["deploy", "--plan-upgrade", "23.02", "26.05"]),
]
DEPLOYED = ("slurm-25.05", "slurm-24.11-gpu")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("keys", "arguments"), VALUES)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_names_of_builds_settings_and_releases_are_completed(
    request: pytest.FixtureRequest, shell: str, keys: str, arguments: list[str]
) -> None:
    assert typed(request.getfixturevalue(shell), f"slurm-factory {keys}") == arguments


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_paths_are_completed_where_a_package_may_be_one(
    request: pytest.FixtureRequest, shell: str, cache: Path
) -> None:
    path = f"{cache}/builds/25.05/slurm-25.05-manifest.json"
    assert typed(request.getfixturevalue(shell), f"slurm-factory show {path[:-5]}\t")[1] == path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of a machine with two versions, one that is half removed, and other files."""
    for prefix in ("opt/slurm", "srv/tools"):
        versions = tmp_path / prefix / "versions"
        for name in (*DEPLOYED, ".partial.7"):
            (versions / name).mkdir(parents=True)
        for name in DEPLOYED:
            (versions / name / "deployed").touch()
        (versions / "slurm-notes").touch()
        (versions / ".partial.7/deployed").touch()
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "--root {} --switch"),
        ("bash", "--prefix={}/srv/tools --remove"),
        ("zsh", "--prefix {}/srv/tools --remove"),
    ],
)
def test_names_of_deployed_versions_are_completed(
    request: pytest.FixtureRequest, image: Path, shell: str, words: str
) -> None:
    line = f"slurm-factory deploy {words.format(image)}"
    assert typed(request.getfixturevalue(shell), f"{line} slurm-24\t")[-1] == "slurm-24.11-gpu"
    assert typed(request.getfixturevalue(shell), f"{line} slurm-n\t")[-1] == "slurm-n"


def test_versions_that_are_not_complete_or_not_there_have_no_names(image: Path) -> None:
    given = SimpleNamespace(params={"prefix": None, "root": str(image)})
    assert completion.deployed(given, "") == sorted(DEPLOYED)
    given.params["root"] = f"{image}/none"
    assert completion.deployed(given, "") == []


def test_names_are_looked_for_where_the_script_looks() -> None:
    assert f"prefix={completion.DEPLOYED} " in resources.deploy_file("deploy.sh")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("show slurm-24", {"slurm-24.11", "slurm-24.11-gpu"}),
        ("settings cpu", {"cpu_limit"}),
        ("build --base debian@", {"debian@12", "debian@13"}),
        ("build --slurm-version late", {"latest"}),
        ("clean --ke", {"--keep"}),
    ],
)
def test_fish_completes_them_too(
    tmp_path: Path, cache: Path, line: str, completions: set[str]
) -> None:
    if not shutil.which("fish"):
        pytest.skip("there is no fish here")
    script = tmp_path / "completion.fish"
    script.write_text(completion_script("fish"))
    done = subprocess.run(
        ["fish", "-N", "-c", f"source {script}; complete -C 'slurm-factory {line}'"],
        env=environment(tmp_path, cache),
        capture_output=True,
        text=True,
        check=True,
    )
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} == completions
