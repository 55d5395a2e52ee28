"""CPU targets: names, architectures, and what this machine can run."""

import pytest
from archspec.cpu import TARGETS

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan import spack as targets
from slurm_factory.plan.plan import DEFAULT_TARGETS
from slurm_factory.plan.spack import require_runnable, require_target


@pytest.mark.parametrize("target", [*DEFAULT_TARGETS.values(), "x86_64", "x86_64_v4", "zen4"])
def test_levels_and_cpus_of_the_architecture_are_taken(target: str) -> None:
    require_target(target, "x86_64")


@pytest.mark.parametrize(
    ("target", "architecture", "said"),
    [
        ("x86_64v3", "x86_64", "Did you mean x86_64_v3?"),
        ("skylak", "x86_64", "Did you mean skylake?"),
        ("nonsense", "x86_64", "Use x86_64, x86_64_v2, x86_64_v3, x86_64_v4, or the name"),
        ("aarch64", "x86_64", "Use x86_64,"),
        ("zen4", "aarch64", "Use aarch64,"),
    ],
)
def test_a_target_that_no_machine_here_is_does_not_wait_for_the_solver(
    target: str, architecture: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "host", lambda: TARGETS["sapphirerapids"])
    with pytest.raises(ConfigurationError) as caught:
        require_target(target, architecture)
    assert repr(target) in caught.value.brief
    assert caught.value.details.startswith(said)
    assert "SLURM_FACTORY_SPACK_TARGET" in caught.value.resolution


@pytest.mark.parametrize("target", ["haswell", "x86_64_v3", "x86_64", "not-in-archspec"])
def test_what_the_cpu_or_one_before_it_is_can_be_built(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "host", lambda: TARGETS["haswell"])
    require_runnable(target)


@pytest.mark.parametrize("target", ["x86_64_v3", "haswell", "zen4"])
def test_an_older_machine_is_shown_its_own_level_before_anything_is_made(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "host", lambda: TARGETS["sandybridge"])
    with pytest.raises(ConfigurationError) as caught:
        require_runnable(target)
    assert target in caught.value.brief
    assert "SLURM_FACTORY_SPACK_TARGET=x86_64_v2" in caught.value.resolution


def test_only_a_target_that_this_machine_can_run_is_advised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "host", lambda: TARGETS["haswell"])
    with pytest.raises(ConfigurationError) as caught:
        require_target("skylak", "x86_64")
    assert caught.value.details.startswith("Use x86_64, x86_64_v2, x86_64_v3, or ")
