"""Results of configure's checks, saved as data for the next build with the same inputs."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.util.documents import read_json
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job

NAME = r"[A-Za-z]\w*_cv_\w+"
VALUE = r"[\w ./,:=+@%^-]*"
"""Without characters that a shell interprets. Other results, such as libtool's pipelines, are not
kept: configure finds them again."""
LINE = re.compile(
    rf"(?P<name>{NAME})=(?:\$\{{(?P=name)=)?(?P<quote>'?)(?P<value>{VALUE})(?P=quote)\}}?"
)
"""A line of a cache file (Autoconf, "Cache Files")."""
LARGEST = 1 << 20


@dataclass(frozen=True)
class ConfigureResults:
    """The results for the plan of a job on the base of an instance.

    configure reads its cache file as a shell script. This program therefore keeps names and plain
    values, and writes the script itself. The key covers the sources: a build of other sources
    never sees them.
    """

    job: Job
    instance: Instance

    def load(self) -> str:
        """Write the saved results for configure, and return the path (instance) of the file.

        Empty if there are none, and on this machine, where they contain the build's directory.
        """
        if self.job.plan.destructive:
            return ""
        try:
            saved = _checked(read_json(self._file))
        except (OSError, ValueError):
            return ""
        script = self.job.workspace.input / "config.cache"
        script.write_text("".join(f"{name}='{saved[name]}'\n" for name in sorted(saved)), "utf-8")
        return str(self.instance.inside(script))

    def save(self, cache: PurePosixPath) -> None:
        """Keep the results in configure's cache file (instance), as far as they are plain."""
        if self.job.plan.destructive:
            return
        # They only save time.
        with suppress(SlurmFactoryError, OSError):
            text = self.instance.take_file(cache, LARGEST).decode(errors="replace")
            found = (LINE.fullmatch(line) for line in text.splitlines())
            results = {match["name"]: match["value"] for match in found if match}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._file) as file:
                file.write(json.dumps(results, indent=1, sort_keys=True).encode())

    @property
    def _file(self) -> Path:
        key = self.job.plan.build_key(self.instance.record)
        return self.job.settings.configure_dir / f"{key}.json"


def _checked(document: Any) -> dict[str, str]:
    """Saved results.

    Raises:
        ValueError: The file is damaged.
    """
    results = TypeAdapter(dict[str, str]).validate_python(document)
    for name, value in results.items():
        if not (re.fullmatch(NAME, name) and re.fullmatch(VALUE, value)):
            raise ValueError(f"{name} is not a result of configure")
    return results
