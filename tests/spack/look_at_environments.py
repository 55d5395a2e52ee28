"""Run by Spack's own interpreter: what Spack says about environments, as JSON.

Arguments: directories of environments. Of each: the errors that the schemas find when they refuse
every key that they do not name (Spack itself ignores unknown ones below `config`), and the
configuration that Spack makes of the file and what it includes.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import spack.config  # type: ignore[import-not-found]
import spack.environment  # type: ignore[import-not-found]
import spack.schema  # type: ignore[import-not-found]
import spack.schema.env  # type: ignore[import-not-found]
import spack.util.spack_yaml as syaml  # type: ignore[import-not-found]

SECTIONS = ("bootstrap", "concretizer", "config", "mirrors", "packages", "repos")


def strict(schema: Any) -> Any:
    """`schema` with every object closed that names its keys."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        if closed.get("type") == "object" and "properties" in closed:
            closed.setdefault("additionalProperties", False)
        return closed
    return [strict(item) for item in schema] if isinstance(schema, list | tuple) else schema


def errors(file: Path) -> list[str]:
    """What the schema of environments says about `file`."""
    validator = spack.schema.Validator(strict(copy.deepcopy(spack.schema.env.schema)))
    with file.open() as stream:
        document = syaml.load(stream)
    return [error.message for error in validator.iter_errors(document)]


def merged(directory: Path) -> dict[str, Any]:
    """The configuration in force in the environment of `directory`."""
    with spack.environment.Environment(str(directory)):
        return {section: spack.config.get(section) for section in SECTIONS}


def main() -> None:
    """Print one object: directory → errors, configuration."""
    found = {
        argument: {
            "errors": (wrong := errors(Path(argument, "spack.yaml"))),
            "configuration": {} if wrong else merged(Path(argument)),
        }
        for argument in sys.argv[1:]
    }
    json.dump(found, sys.stdout)


main()
