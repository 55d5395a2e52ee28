"""Packages whose manifests describe how they were built, for tests that build them again."""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from package_samples import EPOCH, make_manifest

from slurm_factory.config import Settings
from slurm_factory.package.assemble import identity_of
from slurm_factory.package.manifest import (
    BundledFile,
    File,
    Manifest,
    Source,
    SpackBuild,
    load_manifest,
    write_manifest,
)
from slurm_factory.package.publish import describe, problem_with, publish, write_checksums
from slurm_factory.package.tarball import pack
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.up_to_date import Outcome

BASE = {"base": "debian@12", "packages": {"libssl3:amd64": "3.0.20-1"}}
FILES = {"bin/srun": b"\0slurm", "etc/slurm.conf": b"a = 1\nb = 2\n"}


@dataclass
class Builder:
    """Stands for `builder.build`: makes small packages of files, and keeps what it was asked."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    base: dict[str, Any] = field(default_factory=lambda: dict(BASE))
    bundled: tuple[BundledFile, ...] = ()
    spack: SpackBuild | None = None
    asked: list[tuple[BuildPlan, Settings, str]] = field(default_factory=list)

    def build(
        self,
        plan: BuildPlan,
        settings: Settings,
        reporter: object,
        *,
        keep_instance: bool,
        offline: bool,
        lock: str = "",
    ) -> Outcome:
        """A package of a plan, as a build publishes it."""
        del reporter, keep_instance, offline
        self.asked.append((plan, settings, lock))
        staging = settings.work_dir / f"staged-{plan.stem}-{len(self.asked)}"
        logs = settings.logs_dir / f"build-{len(self.asked)}"
        logs.mkdir(parents=True, exist_ok=True)
        self._write(staging / "tree")
        path = publish(self._stage(plan, staging), settings.builds_dir / plan.requested)
        return Outcome(path, load_manifest(path), up_to_date=False, log=logs / "build.log")

    def _write(self, tree: Path) -> None:
        for name, content in self.files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)

    def _stage(self, plan: BuildPlan, staging: Path) -> Path:
        identity = identity_of(plan)
        tops = {identity.software_tarball: "software", identity.module_tarball: ""}
        packed = [
            pack(staging / "tree", staging / name, top=top, mtime=EPOCH)
            for name, top in tops.items()
        ]
        packed.append(write_checksums(packed, staging / identity.checksums))
        made = make_manifest(tuple(File.of(artifact) for artifact in packed))
        plan_record = json.loads(json.dumps(plan.describe()))
        changes = {
            "identity": identity,
            "plan": plan_record,
            "slurm_factory": plan_record["factory"],
            "base_record": self.base,
            "bundled": self.bundled,
            "spack": self.spack,
            "source": Source(
                url=plan.release.url, sha256=plan.release.sha256, tag=plan.release.tag
            ),
        }
        return write_manifest(made.model_copy(update=changes), staging)


def first_build(plan: BuildPlan, settings: Settings, **made: Any) -> tuple[Path, Builder]:
    """The manifest of a package (host), and what builds it again in the same way."""
    for directory in (settings.builds_dir, settings.logs_dir, settings.work_dir):
        directory.mkdir(parents=True, exist_ok=True)
    builder = Builder(**made)
    outcome = builder.build(plan, settings, None, keep_instance=False, offline=False)
    return outcome.manifest_path, replace(builder, asked=[])


def change_manifest(path: Path, **changes: Any) -> Manifest:
    """Write other fields into a manifest (host)."""
    manifest = load_manifest(path).model_copy(update=changes)
    write_manifest(manifest, path.parent)
    return manifest


def software(path: Path) -> Path:
    """The tarball with the tree of the package with a manifest (host)."""
    return path.with_name(load_manifest(path).identity.software_tarball)


def tamper(path: Path, name: str = "bin/srun", *, hide: bool = False) -> None:
    """Change one byte of a file in the tarball of a package, and pack it again consistently.

    Args:
        path: Manifest of the package.
        name: The file in its tree.
        hide: Also correct the checksums and the manifest.
    """
    tarball, plain = software(path), io.BytesIO()
    with (
        tarfile.open(tarball) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            found = old.extractfile(member)
            content = found.read() if found else b""
            if member.name == f"software/{name}":
                content = content[:-1] + bytes([content[-1] ^ 1])
            new.addfile(member, io.BytesIO(content))
    tarball.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    if hide:
        manifest = load_manifest(path)
        packed = [describe(path.with_name(file.name)) for file in manifest.files[:-1]]
        packed.append(write_checksums(packed, path.with_name(manifest.identity.checksums)))
        files = tuple(type(manifest.files[0]).of(artifact) for artifact in packed)
        change_manifest(path, files=files)
        assert problem_with(load_manifest(path), path.parent) == ""
