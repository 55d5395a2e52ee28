"""What the real Spack says of a site's own configuration, and what becomes of that."""

from dataclasses import replace
from io import StringIO
from pathlib import Path, PurePosixPath

import pytest
import real_spack
from plan_samples import sample_settings
from spack_samples import build_on_this_machine

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.recipes.spack.build import build
from slurm_factory.recipes.spack.session import InstancePaths

pytestmark = [
    pytest.mark.spack,
    pytest.mark.skipif(not real_spack.HERE, reason=real_spack.WHY_NOT),
]

SITE = """\
packages:
  munge:
    externals:
    - spec: munge@0.5.18
      {key}: {value}
"""


@pytest.mark.parametrize(
    ("key", "value", "line"), [("prefx", "/usr", 4), ("prefix", "[/usr]", 5)], ids=str
)
def test_a_mistake_that_only_spack_sees_names_the_sites_file_and_the_line(
    key: str, value: str, line: int, tmp_path: Path
) -> None:
    site = tmp_path / "mine.yaml"
    site.write_text(SITE.format(key=key, value=value))
    settings = sample_settings(tmp_path / "cache", spack_config=site)
    root = PurePosixPath(real_spack.HERE)
    paths = InstancePaths(
        program=root / "spack/bin/spack",
        python=PurePosixPath(real_spack.PYTHON),
        project=PurePosixPath(tmp_path / "project"),
        store=PurePosixPath(tmp_path / "store"),
    )
    with build_on_this_machine(settings, paths, StringIO()) as plain:
        choice = replace(plain.choice, config=site.read_text())
        job = replace(plain.job, plan=replace(plain.job.plan, spack=choice))
        with pytest.raises(ConfigurationError) as caught:
            build(job, plain.instance, paths)
    assert caught.value.brief == f"Spack cannot use {site}, line {line}."
    assert len(caught.value.details.splitlines()) == 1
