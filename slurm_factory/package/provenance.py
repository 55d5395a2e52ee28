"""Where a package comes from: an in-toto Statement v1 with a SLSA Provenance v1 predicate.

github.com/in-toto/attestation, spec/v1, and slsa.dev/spec/v1.0/provenance define the fields.
docs/signatures.md defines our build type.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from slurm_factory import __version__
from slurm_factory.constants import APPLICATION
from slurm_factory.exceptions import VerificationError
from slurm_factory.package.manifest import Manifest
from slurm_factory.plan.base_setup import without_credentials
from slurm_factory.util.documents import read_limited
from slurm_factory.util.files import write_text

if TYPE_CHECKING:
    from slurm_factory.job import Job
    from slurm_factory.package.built import Built
    from slurm_factory.package.tarball import Artifact
    from slurm_factory.plan.plan import BuildPlan

PAGE = "https://github.com/slurm-factory/slurm-factory/blob/main/docs/signatures.md"
BUILD_TYPE = f"{PAGE}#build-type-1"
OWN_MACHINE = f"{PAGE}#builder"
"""The builder where no setting and no workflow names one."""
LARGEST = 4 << 20
"""Of a statement, in bytes."""
COMMIT = re.compile(r"[0-9a-f]{40}")

Text = Annotated[str, StringConstraints(max_length=4096)]


class _Part(BaseModel):
    """A part of a statement. Readers ignore unknown fields, as the specifications demand."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True
    )


class ResourceDescriptor(_Part):
    """A file, a repository or another thing."""

    name: Text | None = None
    uri: Text | None = None
    digest: dict[str, Text] | None = None
    annotations: dict[str, JsonValue] | None = None


class BuildDefinition(_Part):
    """What the builder was asked for, and what it used."""

    build_type: Text
    external_parameters: dict[str, JsonValue]
    internal_parameters: dict[str, JsonValue] = {}
    resolved_dependencies: tuple[ResourceDescriptor, ...] = ()


class Builder(_Part):
    """Who built it."""

    id: Text
    version: dict[str, Text] = {}


class BuildMetadata(_Part):
    """When it was built."""

    invocation_id: Text = ""
    started_on: AwareDatetime | None = None
    finished_on: AwareDatetime | None = None


class RunDetails(_Part):
    """The run of the builder."""

    builder: Builder
    metadata: BuildMetadata = BuildMetadata()


class Provenance(_Part):
    """The predicate."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_Part):
    """The statement about the files of a package."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: tuple[ResourceDescriptor, ...]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Provenance


def write_provenance(
    job: Job,
    built: Built,
    base_record: Mapping[str, Any],
    subjects: Iterable[Artifact],
    destination: Path,
) -> Path:
    """Write the statement about finished files and return its path.

    Args:
        job: Job of this build.
        built: The result of the recipe.
        base_record: The content of the base.
        subjects: The files of the package.
        destination: File to write (host).

    Raises:
        OutputError: It cannot be written.
    """
    plan = job.plan
    statement = Statement(
        subject=tuple(
            ResourceDescriptor(name=each.path.name, digest={"sha256": each.sha256})
            for each in subjects
        ),
        predicate=Provenance(
            build_definition=BuildDefinition(
                build_type=BUILD_TYPE,
                external_parameters=_asked(plan),
                internal_parameters=_decided(plan, base_record, job.jobs),
                resolved_dependencies=_used(plan, built, base_record),
            ),
            run_details=RunDetails(
                builder=Builder(
                    id=builder_id(job.settings.builder_id, os.environ),
                    version={APPLICATION: __version__},
                ),
                metadata=BuildMetadata(
                    invocation_id=_invocation(job.workspace.build_id, os.environ),
                    started_on=job.started,
                    finished_on=datetime.now(UTC),
                ),
            ),
        ),
    )
    text = statement.model_dump_json(indent=2, by_alias=True, exclude_none=True)
    return write_text(destination, f"{text}\n")


def builder_id(setting: str | None, environment: Mapping[str, str]) -> str:
    """URI of who builds: the setting, else the workflow of GitHub, else a machine of a user's."""
    workflow = environment.get("GITHUB_WORKFLOW_REF")
    if setting or environment.get("GITHUB_ACTIONS") != "true" or not workflow:
        return setting or OWN_MACHINE
    return f"{_server(environment)}/{workflow}"


def _invocation(build_id: str, environment: Mapping[str, str]) -> str:
    """The run of a workflow, or the id of the build, which its log has."""
    names = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT")
    repository, run, attempt = (environment.get(name) for name in names)
    if environment.get("GITHUB_ACTIONS") != "true" or not (repository and run):
        return build_id
    return f"{_server(environment)}/{repository}/actions/runs/{run}/attempts/{attempt or 1}"


def _server(environment: Mapping[str, str]) -> str:
    return environment.get("GITHUB_SERVER_URL") or "https://github.com"


def _asked(plan: BuildPlan) -> dict[str, Any]:
    """What the user decided."""
    return {
        "slurmVersion": plan.requested,
        "source": without_credentials(plan.release.location),
        "type": plan.build_type.value,
        "variants": dict(plan.variants),
        "deps": plan.deps.value,
        "base": plan.base.name,
        "architecture": plan.architecture,
        "cpu": plan.cpu,
        "glibc": plan.floor,
        "backports": plan.backports.name if plan.backports else "",
        "patches": [each.name for each in plan.site_patches],
        "suffix": plan.site_suffix,
        "destructiveMode": plan.destructive,
    }


def _decided(plan: BuildPlan, base_record: Mapping[str, Any], jobs: int) -> dict[str, Any]:
    """What slurm-factory decided."""
    return {
        "release": plan.release.release,
        "buildKey": plan.build_key(base_record),
        "recipe": plan.inputs.recipe,
        "code": plan.inputs.code,
        "tools": dict(plan.inputs.tools),
        "jobs": jobs,
    }


def _used(
    plan: BuildPlan, built: Built, base_record: Mapping[str, Any]
) -> tuple[ResourceDescriptor, ...]:
    release = plan.release
    source = {"sha256": release.sha256} if release.sha256 else {}
    source |= {"gitCommit": release.commit} if release.commit else {}
    packages = json.dumps(base_record.get("packages", {}), sort_keys=True, separators=(",", ":"))
    backports = plan.backports
    return (
        ResourceDescriptor(name="slurm", uri=without_credentials(release.url), digest=source),
        *(
            ResourceDescriptor(
                name=each.name, digest={"sha256": each.sha256}, annotations={"origin": each.origin}
            )
            for each in built.patches
        ),
        *(
            [ResourceDescriptor(name=backports.pool, digest={"sha256": backports.sha256})]
            if backports
            else []
        ),
        *(
            ResourceDescriptor(name=name, digest={"sha256": sha256})
            for name, sha256 in plan.inputs.sources.items()
        ),
        ResourceDescriptor(
            name=plan.base.name,
            digest={"sha256": hashlib.sha256(packages.encode()).hexdigest()},
            annotations={"setup": base_record.get("setup", "")},
        ),
        *_spack(plan, base_record.get("checkouts") or {}),
    )


def _spack(plan: BuildPlan, checkouts: Mapping[str, Any]) -> Iterable[ResourceDescriptor]:
    if plan.spack is None:
        return
    refs = plan.spack.refs.redacted
    for name, url, ref in (
        ("spack", refs.url, refs.ref),
        ("spack-packages", refs.packages_url, refs.packages_ref),
    ):
        yield ResourceDescriptor(
            name=name,
            uri=f"git+{url}@{ref}",
            digest={"gitCommit": ref} if COMMIT.fullmatch(ref) else None,
            annotations={"checkout": checkouts.get(name, "")},
        )


def load_provenance(path: Path) -> Statement:
    """The statement at `path` (host), which anybody may have written.

    Raises:
        VerificationError: It is no such statement, or cannot be read.
    """
    try:
        return Statement.model_validate_json(read_limited(path, LARGEST))
    except OSError as error:
        reason = f"{error.strerror or error}."
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
    raise VerificationError(
        f"{path.name} is no provenance of a package.",
        details=reason,
        resolution="Copy all files of the build again.",
    )


def check_provenance(manifest: Manifest, directory: Path) -> Statement | None:
    """The statement beside a manifest, if it is about the files that the manifest lists.

    Args:
        manifest: Manifest of the package.
        directory: Directory (host) of its files.

    Returns:
        The statement; None where the package has none, as those of earlier versions.

    Raises:
        VerificationError: It is about other files, or is none.
    """
    names = manifest.identity.names
    listed = {file.name: file.sha256 for file in manifest.files}
    if names.provenance not in listed:
        return None
    statement = load_provenance(directory / names.provenance)
    told = {each.name: (each.digest or {}).get("sha256") for each in statement.subject}
    for name in (names.software, names.module, names.sbom):
        if name in listed and told.get(name) != listed[name]:
            raise VerificationError(
                f"{names.provenance} is not about {name}.",
                details=f"Its SHA-256 is {listed[name]} in the manifest, and"
                f" {told.get(name) or 'missing'} there.",
                resolution="Copy all files of the build again.",
            )
    return statement
