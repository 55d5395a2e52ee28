"""The examples in docs/ci.md are what GitHub and GitLab accept, and use what there is."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import REPOSITORY
from plan_samples import sample_plan

from slurm_factory.ci_cache import CiCache, ci_cache
from slurm_factory.config import Settings

PAGE = REPOSITORY / "docs" / "ci.md"
TEXT = PAGE.read_text("utf-8")
GITHUB, _, GITLAB = TEXT.partition("\n## GitLab\n")
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| *(.*?) *\| .* \|$", re.MULTILINE)
OURS = "slurm-factory/slurm-factory"
CHECK = Path(sys.executable).with_name("check-jsonschema")


def workflows() -> list[dict[Any, Any]]:
    return [yaml.safe_load(block) for block in BLOCK.findall(GITHUB)]


def pipeline() -> dict[str, Any]:
    [block] = BLOCK.findall(GITLAB)
    document: dict[str, Any] = yaml.safe_load(block)
    return document


def require_valid(text: str, file: Path, *options: str) -> None:
    """End the test where a file is not what its schema wants."""
    file.write_text(text)
    command = [str(CHECK), *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("block", BLOCK.findall(GITHUB))
def test_each_workflow_is_one(block: str, tmp_path: Path) -> None:
    schema = ("--builtin-schema", "vendor.github-workflows")
    require_valid(block, tmp_path / "workflow.yml", *schema)


def test_the_pipeline_is_one(tmp_path: Path) -> None:
    [block] = BLOCK.findall(GITLAB)
    schema = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    require_valid(block, tmp_path / ".gitlab-ci.yml", *schema)


def used() -> list[tuple[str, dict[str, str]]]:
    """What the workflows use, and what they pass."""
    jobs = [job for workflow in workflows() for job in workflow["jobs"].values()]
    steps = [step for job in jobs for step in job.get("steps", ())]
    return [(each["uses"], each.get("with", {})) for each in (*jobs, *steps) if "uses" in each]


def test_what_is_passed_are_inputs() -> None:
    seen = set()
    for name, given in used():
        path, _, ref = name.partition("@")
        if not path.startswith(OURS):
            continue
        assert ref == "v1"
        file = REPOSITORY / path.removeprefix(OURS).strip("/")
        document = yaml.safe_load((file / "action.yml" if file.is_dir() else file).read_text())
        # YAML 1.1 takes the word on for true.
        inputs = (
            document["inputs"]
            if "inputs" in document
            else document[True]["workflow_call"]["inputs"]
        )
        assert given.keys() <= inputs.keys()
        seen.add(file.name)
    assert len(seen) == 4


def test_actions_of_others_have_the_versions_that_our_own_use() -> None:
    ours = "".join(
        path.read_text()
        for path in (REPOSITORY / "action.yml", *(REPOSITORY / ".github/workflows").glob("*.yml"))
    )
    pinned = dict(re.findall(r"uses: (\S+)@[0-9a-f]{40} # (v\d+)", ours))
    others = [name.split("@") for name, _ in used() if not name.startswith(OURS)]
    assert others
    assert all(pinned[name] == version for name, version in others)


@pytest.mark.parametrize("action", [".", "setup-slurm"])
def test_the_tables_have_every_input_with_its_default(action: str) -> None:
    inputs = yaml.safe_load((REPOSITORY / action / "action.yml").read_text())["inputs"]
    tables = [dict(ROW.findall(table)) for table in TEXT.split("| Input | Default | Meaning |")]
    [table] = [each for each in tables if each.keys() == inputs.keys()]
    for name, each in inputs.items():
        # Without a source, an empty version is the newest.
        assert table[name].strip("`") in {each["default"], "latest"}


def test_the_pipeline_keeps_what_the_plan_names() -> None:
    cache = pipeline()["build"]["cache"]
    planned = planned_cache()
    assert [f"/project/{path}" for path in cache["paths"]] == [str(p) for p in planned.paths]


def planned_cache() -> CiCache:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("slurm_factory.instances.this_machine.machine_record", lambda _: {"a": 1})
        plan = sample_plan("25.11", destructive_mode=True)
        return ci_cache(plan, Settings(cache_dir=Path("/project/.slurm-factory")))
