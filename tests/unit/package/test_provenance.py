"""A package says from what, how and by whom it was built, in the words of in-toto and SLSA."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from job_samples import sample_job
from package_samples import make_manifest
from plan_samples import sample_plan, sample_settings, spack_plan
from reporter_samples import Listener

from slurm_factory import __version__
from slurm_factory.exceptions import VerificationError
from slurm_factory.package.built import Built
from slurm_factory.package.manifest import AppliedPatch, File
from slurm_factory.package.provenance import (
    BUILD_TYPE,
    LARGEST,
    OWN_MACHINE,
    builder_id,
    check_provenance,
    load_provenance,
    write_provenance,
)
from slurm_factory.package.tarball import Artifact
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.relocate.closure import Closure

PATCH = AppliedPatch(name="ours.patch", origin="slurm-factory", sha256="c" * 64)
RECORD = {
    "base": "debian@12",
    "setup": "0123456789ab",
    "packages": {"gcc-12:amd64": "12.2.0-14"},
    "checkouts": {"spack": "spack v1.1.0"},
}
BUILT = Built(Path(), Closure((), (), {}), {}, Path(), {}, (), (), patches=(PATCH,))
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "site/slurm",
    "GITHUB_WORKFLOW_REF": "site/slurm/.github/workflows/slurm.yml@refs/heads/main",
    "GITHUB_RUN_ID": "17",
    "GITHUB_RUN_ATTEMPT": "2",
}
FIELDS = {
    "_type subject predicateType predicate": (),
    "buildDefinition runDetails": ("predicate",),
    "buildType externalParameters internalParameters resolvedDependencies": (
        "predicate",
        "buildDefinition",
    ),
    "builder metadata": ("predicate", "runDetails"),
    "id version": ("predicate", "runDetails", "builder"),
    "invocationId startedOn finishedOn": ("predicate", "runDetails", "metadata"),
}
"""Of the specifications: in-toto Statement v1, and slsa.dev/spec/v1.0/schema/provenance.proto."""
DESCRIPTOR = {"uri", "digest", "name", "downloadLocation", "mediaType", "content", "annotations"}
"""A ResourceDescriptor of in-toto v1; it needs one of the first two, or the content."""


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GITHUB:
        monkeypatch.delenv(name, raising=False)


def written(tmp_path: Path, plan: BuildPlan, **settings: Any) -> dict[str, Any]:
    job = sample_job(plan, sample_settings(tmp_path / "cache", **settings), Listener())
    subject = Artifact(Path(f"/x/{plan.stem}-software.tar.gz"), 7, "a" * 64)
    path = write_provenance(job, BUILT, RECORD, [subject], tmp_path / "p.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def part(document: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        document = document[key]
    return document


@pytest.mark.parametrize("plan", [sample_plan(), spack_plan()], ids=["system", "spack"])
def test_every_field_is_one_of_the_specification(tmp_path: Path, plan: BuildPlan) -> None:
    document = written(tmp_path, plan)
    for names, keys in FIELDS.items():
        assert set(part(document, *keys)) == set(names.split())
    used = part(document, "predicate", "buildDefinition", "resolvedDependencies")
    for each in (*document["subject"], *used):
        assert set(each) <= DESCRIPTOR
        assert each.get("uri") or each.get("digest")
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"


def test_it_names_everything_the_package_was_made_of(tmp_path: Path) -> None:
    plan = spack_plan()
    document = written(tmp_path, plan)
    definition = part(document, "predicate", "buildDefinition")
    used = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert used["slurm"]["digest"] == {"sha256": plan.release.sha256}
    assert used["slurm"]["uri"] == plan.release.url
    assert used["ours.patch"]["digest"] == {"sha256": PATCH.sha256}
    assert used["debian@12"]["digest"].keys() == {"sha256"}
    assert used["spack"]["uri"] == "git+https://git.example/spack.git@v1.1.0"
    assert used["spack"]["annotations"] == {"checkout": "spack v1.1.0"}
    assert used["spack-packages"]["uri"].endswith("@v2026.06.0")
    assert set(plan.inputs.sources) <= used.keys()
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"]["slurmVersion"] == "24.11"
    assert definition["internalParameters"]["buildKey"] == plan.build_key(RECORD)


def test_a_commit_of_spack_is_a_digest(tmp_path: Path) -> None:
    plan = spack_plan()
    assert plan.spack is not None
    refs = replace(plan.spack.refs, ref="1" * 40, url="https://me:secret@git.example/spack.git")
    document = written(tmp_path, replace(plan, spack=replace(plan.spack, refs=refs)))
    used = part(document, "predicate", "buildDefinition", "resolvedDependencies")
    (spack,) = [each for each in used if each["name"] == "spack"]
    assert spack["digest"] == {"gitCommit": "1" * 40}
    assert "secret" not in json.dumps(document)


def test_another_base_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        used = part(written(tmp_path, sample_plan()), "predicate", "buildDefinition")
        (base,) = [e for e in used["resolvedDependencies"] if e["name"] == "debian@12"]
        found: str = base["digest"]["sha256"]
        return found

    before = digest()
    monkeypatch.setitem(RECORD, "packages", {"gcc-12:amd64": "12.2.0-15"})
    assert digest() != before


def test_times_are_those_of_this_build(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    run = part(written(tmp_path, sample_plan()), "predicate", "runDetails")
    started, finished = (
        datetime.fromisoformat(run["metadata"][key]) for key in ("startedOn", "finishedOn")
    )
    assert now <= started <= finished <= datetime.now(UTC)
    assert run["builder"]["version"] == {"slurm-factory": __version__}
    assert run["metadata"]["invocationId"] == "build-1"


def test_the_builder_is_the_setting_the_workflow_or_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = f"https://github.com/{GITHUB['GITHUB_WORKFLOW_REF']}"
    assert builder_id(None, {}) == OWN_MACHINE
    assert builder_id(None, GITHUB) == workflow
    assert builder_id("https://ci.example/x", GITHUB) == "https://ci.example/x"
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    run = part(written(tmp_path, sample_plan()), "predicate", "runDetails")
    assert run["builder"]["id"] == workflow
    assert run["metadata"]["invocationId"] == (
        "https://github.com/site/slurm/actions/runs/17/attempts/2"
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Directory of a package, of which only the provenance is there."""
    document = written(tmp_path, sample_plan())
    names = make_manifest((File(name="x", size=1, sha256="a" * 64),)).identity.names
    document["subject"] = [{"name": names.software, "digest": {"sha256": "a" * 64}}]
    (tmp_path / names.provenance).write_text(json.dumps(document))
    return tmp_path


def listing(*names: str, sha256: str = "a" * 64) -> Any:
    return make_manifest(tuple(File(name=name, size=1, sha256=sha256) for name in names))


def test_it_must_be_about_the_files_of_the_manifest(package: Path) -> None:
    names = listing("x").identity.names
    assert check_provenance(listing(names.software), package) is None
    statement = check_provenance(listing(names.software, names.provenance), package)
    assert statement is not None
    assert statement.predicate.run_details.builder.id == OWN_MACHINE
    with pytest.raises(VerificationError, match="is not about") as caught:
        check_provenance(listing(names.software, names.provenance, sha256="b" * 64), package)
    assert caught.value.exit_code == 6
    with pytest.raises(VerificationError, match=f"is not about {names.module}"):
        check_provenance(listing(names.software, names.module, names.provenance), package)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"_type": "https://in-toto.io/Statement/v0.1"}', "_type"),
        ("\udcff", "Invalid JSON"),
        (" " * (LARGEST + 1), "large"),
    ],
    ids=["empty", "list", "deep", "old", "bytes", "large"],
)
def test_what_is_no_statement_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "x-provenance.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(VerificationError, match="is no provenance") as caught:
        load_provenance(path)
    assert reason in caught.value.details


def test_neither_links_nor_pipes_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        with pytest.raises(VerificationError, match="is no provenance"):
            load_provenance(tmp_path / name)
