"""Options about another LXD that contradict others."""

from pathlib import Path

import pytest
from plan_samples import sample_settings

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.request import BuildOptions, open_machine


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({"target": "m1"}, BuildOptions(), "--target"),
        ({"remote": "farm"}, BuildOptions(destructive_mode=True), "--destructive-mode"),
    ],
)
def test_contradictions_are_refused_before_anything_is_asked(
    tmp_path: Path, settings: dict[str, str], options: BuildOptions, words: str
) -> None:
    chosen = sample_settings(tmp_path).model_copy(update=settings)
    with pytest.raises(ConfigurationError, match=words), open_machine(options, chosen):
        pass


def test_what_runs_on_this_machine_ignores_the_settings_about_another(tmp_path: Path) -> None:
    chosen = sample_settings(tmp_path).model_copy(update={"remote": "farm", "target": "m1"})
    here = chosen.on_this_machine
    assert (here.remote, here.target, here.lxd_place) == (None, None, here.project_name)
    assert chosen.lxd_place == f"farm:{here.project_name}"
