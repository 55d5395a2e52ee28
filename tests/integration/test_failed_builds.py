"""Instances and bases that cannot be made, and builds that fail, say why and leave no litter."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from fault_tools import (
    MINIMAL,
    Site,
    Terminal,
    assert_one_message,
    copy_image,
    own_project,
)
from paths import PROGRAMS

from slurm_factory.config import Settings
from slurm_factory.instances.lxc import delete_unfinished, instance_names, lxc, wait_for_operations

pytestmark = pytest.mark.integration

FAULTY = PROGRAMS / "faulty.py"


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.3])
def test_copy_that_was_broken_off_does_not_appear_after_all(
    fresh_site: Site, seconds: float
) -> None:
    name = f"build-20260101-000000-{round(seconds * 1000)}"
    base = next(n for n in instance_names(fresh_site.project) if n.startswith("base-instance-"))
    copy = ["lxc", "--project", fresh_site.project, "copy", f"local:{base}", f"local:{name}"]
    with suppress(subprocess.TimeoutExpired):
        # Which kills it: LXD is left with what it was asked for.
        subprocess.run(copy, timeout=seconds, check=True)
    assert delete_unfinished(name, fresh_site.project)
    wait_for_operations(name, fresh_site.project)
    assert name not in instance_names(fresh_site.project)


@pytest.fixture(scope="module")
def bare_site(
    lxd: Settings, fresh_site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A project that has no base instance yet, and no network."""
    with own_project(lxd, with_base=False) as project:
        copy_image(lxd, project, tmp_path_factory.mktemp("image"))
        lxc("profile", "device", "remove", "default", "eth0", project=project)
        yield replace(fresh_site, project=project)


def test_base_instance_without_network_is_reported_and_not_kept(bare_site: Site) -> None:
    done = bare_site.run(*MINIMAL, "--force")
    assert_one_message(done, 3, "instance cannot resolve", "slurm.factory doctor")
    assert bare_site.instances() == []
    assert bare_site.bases() == []
    assert bare_site.staged() == []


def test_ctrl_c_while_the_base_is_made_leaves_none_that_later_builds_would_copy(
    bare_site: Site,
) -> None:
    nic = ("eth0", "nic", "name=eth0", "network=lxdbr0")
    lxc("profile", "device", "add", "default", *nic, project=bare_site.project)
    with Terminal(bare_site, "--verbose", *MINIMAL, "--force") as terminal:
        terminal.wait_for("Setting up")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert bare_site.instances() == []
    assert bare_site.bases() == []


# Builds that fail


def test_patch_that_does_not_fit_names_itself_and_leaves_nothing(fresh_site: Site) -> None:
    place = replace(fresh_site, program=(sys.executable, str(FAULTY), "patch"))
    done = place.run(*MINIMAL, "--force")
    assert_one_message(done, 2, r"patch .*\.patch does not apply", "hunk 1 of .*, at line ")
    assert fresh_site.instances() == []


def test_compiler_error_reaches_the_user_with_the_way_into_the_instance(fresh_site: Site) -> None:
    done = _run_faulty(fresh_site, "compiler-flags")
    assert_one_message(done, 1, "make-slurm.sh", "error:", "lxc --project .* exec local:build-")


def test_feature_that_configure_disables_fails_the_build(fresh_site: Site) -> None:
    done = _run_faulty(fresh_site, "promise")
    assert_one_message(done, 1, "disabled.*readline", "~readline")


def _run_faulty(fresh_site: Site, fault: str) -> subprocess.CompletedProcess[str]:
    place = replace(fresh_site, program=(sys.executable, str(FAULTY), fault))
    done = place.run(*MINIMAL, "--force")
    assert len(fresh_site.instances()) == 1
    fresh_site.run("clean", "--yes")
    assert fresh_site.instances() == []
    return done
