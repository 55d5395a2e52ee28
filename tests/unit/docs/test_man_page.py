"""The manual page, as man(1) shows it."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
from click_tree import commands, options_before_the_command
from paths import REPOSITORY

from slurm_factory import exceptions
from slurm_factory.config import ENVIRONMENT_PREFIX, Settings
from slurm_factory.usage import examples

PAGE = REPOSITORY / "docs" / "slurm-factory.1"
needs_man = pytest.mark.skipif(
    not (shutil.which("man") and shutil.which("groff")), reason="there is no man or groff here"
)


def rendered(width: int) -> str:
    """The page as text, which causes no warning."""
    done = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(PAGE)],
        env={**os.environ, "MANWIDTH": str(width), "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


@needs_man
@pytest.mark.parametrize("width", [60, 80, 200])
def test_man_has_no_warnings(width: int) -> None:
    assert rendered(width).startswith("SLURM-FACTORY(1)")


@needs_man
def test_every_command_with_its_options_and_examples_is_there() -> None:
    text = rendered(200)
    _, _, after = text.partition("\nCOMMANDS\n")
    sections = re.split(r"^   (?=[a-z])", after.partition("\nEXIT STATUS\n")[0], flags=re.MULTILINE)
    found = {section.split()[0]: section for section in sections[1:]}
    assert found.keys() == commands().keys()
    for name, options in commands().items():
        for option in options:
            assert re.search(rf"^ +(\S+, )?{option}\b", found[name], re.MULTILINE), (name, option)
        for does, run in examples(name):
            assert does in found[name]
            assert run in found[name]
    before = text.partition("\nCOMMANDS\n")[0]
    assert [each for each in options_before_the_command() if each not in before] == []


@needs_man
def test_every_setting_and_exit_code_is_there() -> None:
    text = rendered(200)
    environment = text.partition("\nENVIRONMENT\n")[2]
    for name in Settings.model_fields:
        assert re.search(rf"^ +{ENVIRONMENT_PREFIX}{name.upper()}\b", environment, re.MULTILINE)
    assert "IF_PROJECT_NAME" in environment
    codes = text.partition("\nEXIT STATUS\n")[2].partition("\nENVIRONMENT\n")[0]
    base = exceptions.SlurmFactoryError
    expected = {0, 141, base.exit_code, *(cls.exit_code for cls in base.__subclasses__())}
    assert {int(code) for code in re.findall(r"^ +(\d+) ", codes, re.MULTILINE)} == expected
    files = text.partition("\nFILES\n")[2]
    for path in Settings().directories:
        assert f"~/.slurm-factory/{path.name}\n" in files


def test_make_environment_installs_it_again_when_it_has_changed() -> None:
    """uv installs the program once, and again only when one of these files has changed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    assert {"file": str(PAGE.relative_to(REPOSITORY))} in project["tool"]["uv"]["cache-keys"]
