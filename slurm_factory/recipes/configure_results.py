"""Results of configure's checks, saved as data for the next build with the same inputs."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job

NAME = r"(ac|am)_cv_\w+"
"""Of Autoconf and Automake. Slurm's own checks set more than the value that they save, and the
outcome does not show libtool's."""
VALUE = r"[\w ./,:=+@%^-]*"
"""Without characters that a shell interprets. Other results, such as libtool's pipelines, are not
kept: configure finds them again."""
LINE = re.compile(
    rf"(?P<name>{NAME})=(?:\$\{{(?P=name)=)?(?P<quote>'?)(?P<value>{VALUE})(?P=quote)\}}?"
)
"""A line of a cache file (Autoconf, "Cache Files")."""
LARGEST = 1 << 20


class SavedResults(BaseModel):
    """Results of one run of configure.

    Attributes:
        outcome: Checksum of all that the run has found out, from configure-slurm.sh.
        results: Values of its checks, by the names of their variables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    results: dict[
        Annotated[str, StringConstraints(pattern=f"^{NAME}$")],
        Annotated[str, StringConstraints(pattern=f"^{VALUE}$")],
    ]


@dataclass(frozen=True)
class ConfigureResults:
    """The results for the plan of a job on the base of an instance.

    configure reads its cache file as a shell script. This program therefore keeps names and plain
    values, and writes the script itself. The key covers the sources: a build of other sources
    never sees them.
    """

    job: Job
    instance: Instance

    def parameters(self) -> dict[str, str]:
        """Write the saved results for configure; returns CACHE and OUTCOME of configure-slurm.sh.

        Both are empty if there are none, and on this machine, where they contain the build's
        directory.
        """
        none = {"CACHE": "", "OUTCOME": ""}
        if self.job.plan.destructive:
            return none
        try:
            saved = SavedResults.model_validate_json(read_text(self._file))
        except (OSError, ValueError):
            return none
        script = self.job.workspace.input / "config.cache"
        lines = (f"{name}='{value}'\n" for name, value in sorted(saved.results.items()))
        script.write_text("".join(lines), "utf-8")
        return {"CACHE": str(self.instance.inside(script)), "OUTCOME": saved.outcome}

    def save(self, source: PurePosixPath) -> None:
        """Keep the results in a configured source (instance), as far as they are plain."""
        if self.job.plan.destructive:
            return
        # They only save time.
        with suppress(SlurmFactoryError, OSError, ValueError):
            cache = self._text(source / "config.cache")
            found = (LINE.fullmatch(line) for line in cache.splitlines())
            saved = SavedResults(
                outcome=self._text(source / "config.outcome").strip(),
                results={match["name"]: match["value"] for match in found if match},
            )
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._file) as file:
                file.write(saved.model_dump_json(indent=1).encode())

    def _text(self, path: PurePosixPath) -> str:
        return self.instance.take_file(path, LARGEST).decode(errors="replace")

    @property
    def _file(self) -> Path:
        key = self.job.plan.build_key(self.instance.record)
        return self.job.settings.configure_dir / f"{key}.json"
