"""The actions of GitHub on a runner, for which an instance stands: from their inputs to a job."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_runner import (
    ACTIONS,
    ARTIFACTS,
    AS_RUNNER,
    CACHES,
    HOME,
    WORKSPACE,
    ActionRun,
    Job,
    inside,
    job_in,
    save_cache,
)
from fault_tools import RELEASE, REPOSITORY, Site, make_cache, wait_until

from slurm_factory.ci_cache import ci_cache
from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.instances.lxc import LONG_SECONDS, delete_instance, lxc
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildRequest, make_plan

pytestmark = pytest.mark.integration

CACHE = Path(HOME) / ".slurm-factory"
EARLIER = "of-an-earlier-build"
VARIANTS = "+nvml +rsmi +oneapi"
INPUTS = {"slurm_version": RELEASE, "type": "minimal", "additional_variants": VARIANTS}
PREFIX = "/opt/cluster"
END_IT = "Stop the cluster that it belongs to, and remove it."
SECONDS_TO_A_JOB = 30
NOT_SENT = (*("--exclude-vcs", "--exclude=./.venv", "--exclude=./.tools"), "--exclude=./.*_cache")
# Its file is the first that is compiled.
BREAKS = """\
--- a/src/api/allocate.c
+++ b/src/api/allocate.c
@@ -0,0 +1 @@
+int twice(void) { return missing; }
"""

Instance = tuple[str, ...]


@pytest.fixture(scope="module")
def instance(
    site: Site, tmp_path_factory: pytest.TempPathFactory, lxd: Settings
) -> Iterator[Instance]:
    """A machine like a runner, where the service of caches has one of an earlier build."""
    name = f"runner-{secrets.token_hex(4)}"
    command = ("lxc", "--project", site.project, "exec", "-T", name, "--")
    scratch = tmp_path_factory.mktemp("runner")
    try:
        lxc("copy", site.bases()[0], name, project=site.project, timeout=LONG_SECONDS)
        lxc("start", name, project=site.project)
        _send(REPOSITORY, scratch / "repository.tar", name, site.project)
        text = (REPOSITORY / "tests/support/destructive/become-runner.sh").read_text()
        where = ("/srv/repository.tar", str(HOME), str(ACTIONS))
        inside(command, "bash", "-c", text, "become-runner.sh", *where)
        made = make_cache(scratch / "made", lxd, site.cache / "ccache")
        # ccache takes an object only for the same source, compiler and options.
        [objects] = (made / "ccache").iterdir()
        objects.rename(objects.with_name(f"{objects.name}-this-machine"))
        _send(made, scratch / "caches.tar", name, site.project)
        unpack = 'mkdir "$1" && tar -xf /srv/caches.tar -C "$1"'
        inside(command, *AS_RUNNER, "bash", "-euc", unpack, "unpack", str(CACHE))
        request = BuildRequest(
            RELEASE, minimal=True, deps=Deps.SYSTEM, base="same", destructive_mode=True
        )
        plan = make_plan(request, "x86_64", host_release())
        planned = ci_cache(plan, Settings(cache_dir=CACHE))
        key = f"{planned.restore_keys[0]}{EARLIER}"
        save_cache(command, key, "\n".join(map(str, planned.paths)))
        yield command
    finally:
        delete_instance(name, site.project)


def _send(directory: Path, tarball: Path, name: str, project: str) -> None:
    """Send a directory as a tarball to /srv of the instance."""
    subprocess.run(["tar", "-cf", str(tarball), "-C", str(directory), *NOT_SENT, "."], check=True)
    target = f"{name}/srv/{tarball.name}"
    lxc("file", "push", str(tarball), target, project=project, timeout=LONG_SECONDS)


def build(job: Job, **inputs: str) -> ActionRun:
    """Run the action that builds, on a machine without what an earlier job left in its cache."""
    job.as_root("rm", "-rf", str(CACHE))
    return job.use(REPOSITORY / "action.yml", ACTIONS, **INPUTS, **inputs)


def start(job: Job) -> ActionRun:
    """Run the action that starts a cluster from the package."""
    file, place = REPOSITORY / "setup-slurm/action.yml", ACTIONS / "setup-slurm"
    return job.use(file, place, package=f"{ARTIFACTS}/slurm", prefix=PREFIX)


def test_from_the_inputs_to_a_package_and_a_job(instance: Instance) -> None:
    with job_in(instance) as job:
        built = build(job, artifact_name="slurm")
        assert not built.failed
        assert EARLIER in str(job.restored)
        assert built.outputs["up-to-date"] == "false"
        assert built.outputs["release"].startswith(RELEASE)
        directory = built.outputs["directory"]
        names = {built.outputs[key] for key in ("software", "module", "manifest", "sha256")}
        there = job.as_root("ls", directory).split()
        assert {Path(name).name for name in names} <= {*there}
        assert job.as_root("ls", f"{ARTIFACTS}/slurm").split() == there
        assert f"### {built.outputs['stem']}" in built.summary
        assert "| File | Size | SHA-256 |" in built.summary
        assert "| Compile | " in built.summary

        again = build(job)
        assert not again.failed
        assert again.outputs == built.outputs | {"up-to-date": "true"}
        assert again.steps["Save the cache"].outcome == "skipped"

        # Of the distribution, which a runner does not have.
        job.as_root("systemctl", "stop", "munge")
        began = time.monotonic()
        cluster = start(job)
        assert not cluster.failed
        status, hostname, _ = job.run("srun hostname", {})
        seconds = time.monotonic() - began
        assert (status, hostname) == (0, job.as_root("hostname"))
        assert seconds < SECONDS_TO_A_JOB
        tree = f"{PREFIX}/current/software"
        conf = "/etc/slurm/slurm.conf"
        assert cluster.outputs == {"prefix": tree, "conf": conf, "version": RELEASE}
        second = start(job)
        assert second.failed
        [refused] = second.steps["Start the cluster"].annotations
        assert refused["text"].endswith(f"There is {PREFIX}/versions already. {END_IT}")
        status, told, _ = job.run("srun id --user --name; command -v sbatch", {})
        assert told.split() == ["runner", f"{tree}/bin/sbatch"]
    wait_until(lambda: not job.as_root("find", "/etc/slurm", "-type", "f"))
    wait_until(lambda: not job.as_root("ls", PREFIX))
    assert PREFIX not in job.as_root("bash", "-c", "readlink /proc/[0-9]*/exe || true")


def test_a_build_that_fails_says_where(instance: Instance) -> None:
    with job_in(instance) as job:
        job.as_root("bash", "-c", 'cat > "$0"', f"{WORKSPACE}/break.patch", given=BREAKS)
        broken = build(job, patches="\n  break.patch\n", artifact_name="broken")
        assert broken.failed
        step = broken.steps["Build"]
        assert step.outcome == "failure"
        [place, reason] = step.annotations[-2:]
        assert (place["file"], place["line"]) == ("src/api/allocate.c", "1")
        assert "‘missing’ undeclared" in place["text"]
        assert reason["title"].startswith("make-slurm.sh failed")
        assert "src/api/allocate.c:1" in broken.summary
        assert ": failed\n" in broken.summary
        assert broken.steps["Upload the package"].outcome == "skipped"
        assert job.as_root("find", f"{ARTIFACTS}/broken-logs", "-name", "build.log")
        assert not any(broken.outputs.values())
        assert "unfinished-42-1" in job.as_root("ls", str(CACHES))
