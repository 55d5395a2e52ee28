"""action.yml, setup-slurm/action.yml and the workflows that others call: what no schema knows."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_expressions import Context, evaluate
from paths import REPOSITORY

from slurm_factory import answers

ACTION = REPOSITORY / "action.yml"
SETUP_SLURM = REPOSITORY / "setup-slurm" / "action.yml"
ACTIONS = (ACTION, SETUP_SLURM)
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
CALLED = [path for path in WORKFLOWS if path.name.startswith("slurm-")]
USES = re.compile(r"uses: (\S+?)@(\S+)(?: # (\S+))?$", re.MULTILINE)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of an action or of all jobs of a workflow."""
    document = loaded(path)
    if "runs" in document:
        found: list[dict[str, Any]] = document["runs"]["steps"]
        return found
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


def test_the_action_has_the_outputs_of_a_build() -> None:
    outputs = loaded(ACTION)["outputs"]
    assert {name: each["description"] for name, each in outputs.items()} == {
        name: meaning.replace("`", "") for name, meaning in answers.OUTPUTS.items()
    }
    for name, each in outputs.items():
        assert each["value"] == f"${{{{ steps.build.outputs.{name} }}}}"


@pytest.mark.parametrize("path", [*ACTIONS, *CALLED], ids=lambda path: path.parent.name + path.name)
def test_each_script_is_one_call_of_a_file_and_reads_its_inputs_from_variables(path: Path) -> None:
    for step in steps(path):
        if "run" in step:
            assert "${{" not in step["run"]
            [name, *_] = shlex.split(step["run"])
            script = path.parent / name.removeprefix("$GITHUB_ACTION_PATH/")
            script = script if path in ACTIONS else REPOSITORY / name
            assert os.access(script, os.X_OK), script


def test_an_action_of_others_is_pinned_to_one_commit_everywhere() -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in (*ACTIONS, *WORKFLOWS):
        for name, ref, comment in USES.findall(path.read_text("utf-8")):
            pins.setdefault(name.removesuffix("/restore").removesuffix("/save"), set()).add(
                (ref, comment)
            )
    for name, refs in pins.items():
        [(ref, comment)] = refs
        assert re.fullmatch(r"[0-9a-f]{40}", ref), name
        assert re.fullmatch(r"v\d+\.\d+\.\d+", comment), name


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.parent.name)
def test_every_input_is_used_and_every_used_input_exists(path: Path) -> None:
    used = set(re.findall(r"(?<![\w-])inputs\.([a-z0-9-]+)", path.read_text("utf-8")))
    assert used == loaded(path)["inputs"].keys()


def test_what_the_workflows_pass_are_inputs_of_the_action() -> None:
    [packages] = [path for path in CALLED if path.name == "slurm-packages.yml"]
    [step] = [step for step in steps(packages) if step.get("uses", "").startswith("./")]
    assert step["with"].keys() <= loaded(ACTION)["inputs"].keys()


def test_both_actions_build_by_the_same_steps() -> None:
    def scripts(path: Path) -> list[str]:
        return [step["run"].replace("/../", "/") for step in steps(path) if "run" in step]

    # On the runner itself, the name of the cache is complete before the build.
    again = [name for name in scripts(ACTION) if name == scripts(ACTION)[2]][1:]
    assert [*scripts(SETUP_SLURM)[:-1], *again] == scripts(ACTION)


# --- the interpreter of the tests ---------------------------------------------------------------


@pytest.fixture
def context() -> Context:
    outputs: dict[str, Mapping[str, str]] = {"build": {"manifest": "/m"}}
    return Context(
        {"package": "", "cache": "true"}, outputs, {"build": "success", "old": "skipped"}
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.cache == 'true'", True),
        ("inputs.cache == 'TRUE'", True),
        ("inputs.package || steps.build.outputs.manifest", "/m"),
        ("inputs.package && steps.build.outputs.manifest", ""),
        ("!(inputs.package != '') && always()", True),
        ("failure() || steps.old.outcome == 'skipped'", True),
        ("steps.old.outputs.anything", ""),
        ("'a b' != 'a  b'", True),
        ("success() && failure()", False),
    ],
)
def test_expressions_mean_what_they_mean_to_github(
    context: Context, expression: str, value: object
) -> None:
    assert evaluate(expression, context) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("inputs.gone", "steps.gone.outcome", "env.HOME", "hashFiles('x')", "always(1)", "a b"),
        *("1 == 1", "inputs.cache[0]", "(always()", "", "github.ref", "inputs.cache =="),
    ],
)
def test_an_unknown_expression_is_an_error(context: Context, expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        evaluate(expression, context)


def test_after_a_failure_only_those_steps_run_that_ask_for_it(context: Context) -> None:
    context.failed = True
    conditions = ["", "inputs.cache == 'true'", "always()", "failure() && inputs.cache == 'true'"]
    assert [context.is_wanted(each) for each in conditions] == [False, False, True, True]
