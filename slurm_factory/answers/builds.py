"""What build, prefetch, list and versions answer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurm_factory import releases
from slurm_factory.base_record import base_packages
from slurm_factory.output import FileRecord, PackageRecord, Results, mask_credentials
from slurm_factory.output.stdout import (
    describe,
    file_size,
    print_document,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.freshness import Outcome
    from slurm_factory.output import Reporter
    from slurm_factory.package.publish import PublishedArtifact
    from slurm_factory.package.records import PackageIdentity, SpackBuild
    from slurm_factory.plan import BuildPlan
    from slurm_factory.prefetch import Prefetched


def print_plan(plan: BuildPlan, *, as_json: bool) -> None:
    """Print what a build would do: `--dry-run`."""
    from slurm_factory import spack_yaml as rendering  # noqa: PLC0415  # slow to import

    spack_yaml = rendering.generate_yaml_string(plan) if plan.spack else ""
    if as_json:
        print_document({"plan": {"stem": plan.stem, **plan.describe(), "spack_yaml": spack_yaml}})
        return
    print_line(f"{plan.stem}: Slurm {plan.release.release} on {plan.base.name}")
    rows = [(feature.name, feature.summary) for feature in plan.selection.chosen]
    rows += [(f"no {name}", reason) for name, reason in plan.selection.unavailable.items()]
    print_table(("Feature", "What"), rows)
    print_line(f"packages of the base: {' '.join(base_packages(plan.setup))}")
    print_line(f"patches: {' '.join(patch.name for patch in plan.patches)}")
    if plan.spack:
        print_line(f"\n{mask_credentials(spack_yaml)}", end="")
    else:
        print_line(f"configure {shlex.join(plan.shown_arguments)}")


def print_outcome(outcome: Outcome, reporter: Reporter, *, as_json: bool) -> None:
    """Print what a build left, and the lines that put it to use.

    Args:
        outcome: Of a build, or of one that was not needed.
        reporter: Knows the steps, whose times are shown with the results.
        as_json: Print the manifest instead.
    """
    manifest = outcome.manifest
    if as_json:
        print_document(
            {
                "up_to_date": outcome.up_to_date,
                "manifest_path": outcome.manifest_path,
                "manifest": manifest.model_dump(mode="json"),
                "log": outcome.log,
            }
        )
        return
    if outcome.up_to_date:
        made = f"{manifest.identity.stem} of {manifest.created:%Y-%m-%d}"
        print_line(f"{made} is up to date; --force builds it again.")
    reporter.results(_results(outcome))
    _print_use(outcome.manifest_path.parent, manifest.identity)


def print_prefetched(prefetched: Prefetched, plans: Sequence[BuildPlan], *, as_json: bool) -> None:
    """Print what is in the caches now, and what is not.

    Args:
        prefetched: What was fetched.
        plans: That it was fetched for.
        as_json: Print a document instead.
    """
    failures, directory = prefetched.failures, prefetched.directory
    if as_json:
        print_document(
            {
                "plans": [plan.stem for plan in plans],
                "directory": directory,
                "files": len(prefetched.files),
                "size": prefetched.size,
                "failures": [{"what": f.what, **describe(f.error)} for f in failures],
            }
        )
        return
    have = f"{len(prefetched.files)} files, {file_size(prefetched.size)}, are in {directory}"
    use = "carry it to where build --offline shall run, or run that here"
    print_line(f"{have}: {'not all that is needed' if failures else use}.")


def print_builds(artifacts: Sequence[PublishedArtifact], *, as_json: bool) -> None:
    """Print the finished builds, with those that do not count and why."""
    if as_json:
        builds = [
            {
                "manifest_path": artifact.path,
                "problem": artifact.problem,
                "identity": artifact.manifest
                and artifact.manifest.identity.model_dump(mode="json"),
            }
            for artifact in artifacts
        ]
        print_document({"builds": builds})
        return
    print_table(
        ("Build", "Release", "Size", "glibc", "Built", "State"),
        [_build_row(artifact) for artifact in artifacts],
        empty="There are no finished builds.",
    )


def _build_row(artifact: PublishedArtifact) -> tuple[str, ...]:
    manifest = artifact.manifest
    return (
        str(artifact.path).removesuffix("-manifest.json"),
        manifest.identity.release if manifest else "",
        file_size(manifest.files[0].size) if manifest else "",
        manifest.glibc if manifest else "",
        f"{manifest.created:%Y-%m-%d %H:%M}" if manifest else "",
        artifact.problem or "complete",
    )


def print_versions(*, as_json: bool) -> None:
    """Print the releases that can be built."""
    catalogue = releases.catalogue()
    if as_json:
        print_document({"releases": [release.model_dump() for release in catalogue]})
        return
    rows = []
    for series in releases.series():
        members = [release for release in catalogue if release.series == series]
        names = " ".join(release.release for release in members)
        rows.append((series, members[-1].release, members[-1].date, names))
    print_table(("Series", "Newest", "Date", "Releases"), rows)


def _results(outcome: Outcome) -> Results:
    directory, manifest = outcome.manifest_path.parent, outcome.manifest
    files = tuple(FileRecord(directory / f.name, f.size, f.sha256) for f in manifest.files)
    results = Results(files, manifest.glibc, manifest.distributions)
    if manifest.spack and not outcome.up_to_date:
        results = replace(results, **_spack_figures(manifest.spack))
    return results


def _spack_figures(spack: SpackBuild) -> dict[str, Any]:
    hits, misses = spack.compiler_cache_hits, spack.compiler_cache_misses
    return {
        "packages": tuple(
            PackageRecord(f"{package.name}@{package.version}", package.seconds, package.cached)
            for package in spack.packages
        ),
        "compilations": (hits, hits + misses),
    }


def _print_use(directory: Path, identity: PackageIdentity) -> None:
    software = shlex.quote(str(directory / identity.software_tarball))
    modules = shlex.quote(str(directory / identity.module_tarball))
    print_line("To use it, here or wherever the two tarballs are copied to:\n")
    print_line(f"  mkdir -p /opt/slurm && tar -xzf {software} -C /opt/slurm")
    print_line(f"  tar -xzf {modules} -C /opt/slurm")
    print_line(f"  module use /opt/slurm/modules && module load slurm/{identity.version}")
