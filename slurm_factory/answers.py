"""The results of commands on stdout: tables, lines, or one JSON document."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slurm_factory.exceptions import OutputError
from slurm_factory.findings import known_now, suspected_now
from slurm_factory.output import github
from slurm_factory.output.records import duration
from slurm_factory.output.stdout import (
    GAP,
    describe,
    file_size,
    print_document,
    print_line,
    print_table,
    terminal_width,
)
from slurm_factory.output.text import as_called, shown
from slurm_factory.package.file_names import MANIFEST_END
from slurm_factory.plan import releases
from slurm_factory.plan.advisories import (
    advisories,
    is_supported,
    known_advisories,
    named,
    support_ends,
    suspected_advisories,
    way_out,
)

if TYPE_CHECKING:
    from datetime import date, datetime
    from pathlib import Path

    from slurm_factory.ci_cache import CiCache
    from slurm_factory.clean import CleanPlan, Removal
    from slurm_factory.compare import Change, Comparison, Side
    from slurm_factory.config import Effective, EffectiveSettings
    from slurm_factory.exceptions import SlurmFactoryError
    from slurm_factory.findings import Library, Report
    from slurm_factory.host.checks import Check as HostCheck
    from slurm_factory.host.setup import SetupResult
    from slurm_factory.output.records import StepRecord
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import (
        File,
        Manifest,
        PackageIdentity,
        SpackBuild,
        SpackPackage,
    )
    from slurm_factory.package.publish import PublishedArtifact
    from slurm_factory.package.signatures import Standing
    from slurm_factory.package.verification import Check, Suite
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.plan.releases import Release
    from slurm_factory.prefetch import Prefetched
    from slurm_factory.reproduce.reproduce import ComparedFile, Found, Reproduction
    from slurm_factory.stores.fetch import Fetched
    from slurm_factory.stores.index import Index, StoredPackage
    from slurm_factory.stores.publish import Published
    from slurm_factory.up_to_date import Outcome
    from slurm_factory.verify.verify import Verdict

PACKAGES_SHOWN = 10
"""The slowest ones; all are in the manifest."""
FILES_SHOWN = 20
"""Those whose sizes differ most."""
UNKNOWN = "unknown"
OUTPUTS = {
    "stem": "Common prefix of the file names.",
    "release": "The release of Slurm, such as 25.05.8.",
    "glibc": "The oldest glibc that the package runs with, such as 2.36, or empty.",
    "up-to-date": "`true` if the package was up to date, `false` if it was built.",
    "directory": "Path of the directory with the files.",
    "software": "Path of the tarball with `software/`.",
    "module": "Path of the tarball with the module files.",
    "manifest": "Path of the manifest.",
    "sbom": "Path of the software bill of materials (CycloneDX).",
    "provenance": "Path of the provenance (in-toto, SLSA).",
    "sha256": "Path of the file for `sha256sum -c`.",
}
"""Outputs of a build in a GitHub workflow, each with its meaning for the documentation."""


# --- build --------------------------------------------------------------------------------------


def print_plan(plan: BuildPlan, *, cache: CiCache | None = None) -> None:
    """Print what a build would do: `--dry-run`.

    Args:
        plan: What it would build.
        cache: What continuous integration can keep of it; print a document then.
    """
    from slurm_factory import spack_yaml as rendering  # noqa: PLC0415  # slow to import

    spack_yaml = rendering.generate_yaml_string(plan) if plan.spack else ""
    if cache:
        packages = plan.inputs.base_packages
        document = {"stem": plan.stem, **plan.describe(), "packages": packages}
        print_document({"plan": document | {"spack_yaml": spack_yaml}, "cache": asdict(cache)})
        return
    print_line(f"{plan.stem}: Slurm {plan.release.release}{plan.suffix} on {plan.base.name}")
    rows = [(feature.name, feature.summary) for feature in plan.selection.chosen]
    rows += [(f"no {name}", reason) for name, reason in plan.selection.unavailable.items()]
    print_line("")
    print_table(("Feature", "What"), rows)
    print_line(f"\npackages of the base: {' '.join(plan.inputs.base_packages)}")
    print_line(f"compiled for: glibc {plan.floor or plan.base.glibc}, {plan.cpu}")
    print_line(f"patches: {' '.join(patch.name for patch in plan.patches)}")
    if plan.backports:
        fixes = " ".join(plan.backports.fixes)
        print_line(f"backports: {plan.backports.name}, which fixes {fixes}")
    if plan.site_patches:
        print_line(f"site patches: {' '.join(patch.name for patch in plan.site_patches)}")
    if plan.spack:
        print_line(f"\n{spack_yaml}", end="")
    else:
        print_line(f"configure {shlex.join(plan.shown_arguments)}")


def print_outcome(outcome: Outcome, reporter: Reporter, *, as_json: bool) -> None:
    """Print the files of a build, and the commands that deploy them.

    In a GitHub workflow, the outputs of the step and the job summary come first: they do not depend
    on stdout.

    Args:
        outcome: Outcome of a build, or of one that was not needed.
        reporter: Knows the steps and their times.
        as_json: Print the manifest instead.

    Raises:
        OutputError: Cannot write stdout or the outputs.
        ReaderGoneError: The reader of stdout has gone.
    """
    manifest, steps = outcome.manifest, reporter.steps
    github.set_outputs(_outputs(outcome))
    summarize(_markdown(outcome, steps), reporter)
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
        print_line(f"{_up_to_date(outcome)}; --force builds it again.")
    if steps:
        print_table(("Step", "Time"), _step_rows(steps), right=("Time",))
    if manifest.spack and not outcome.up_to_date:
        _print_spack(manifest.spack)
    print_line(f"\n{outcome.manifest_path.parent}")
    _print_files(manifest.files)
    if manifest.glibc:
        print_line(f"\n{_needs(manifest)}")
    print_line(_known_advisories(manifest))
    _print_use(outcome.manifest_path, manifest.identity)


def summarize_failure(what: str, error: SlurmFactoryError, reporter: Reporter) -> None:
    """Write the reason why a command failed to the GitHub job summary.

    Args:
        what: The name of the package, else the command.
        error: Why it failed.
        reporter: Knows the steps; gets a warning if the summary cannot be written.
    """
    reason = "\n".join(part for part in (error.brief, error.details, error.resolution) if part)
    lines = [
        f"### {github.plain(what)}: failed",
        "",
        f"<pre>{html.escape(as_called(shown(reason)))}</pre>",
        *_markdown_steps(reporter.steps),
    ]
    summarize(lines, reporter)


def _outputs(outcome: Outcome) -> dict[str, str]:
    manifest, directory = outcome.manifest, outcome.manifest_path.parent
    identity = manifest.identity
    published = {file.name for file in manifest.files}
    names = {
        "software": identity.software_tarball,
        "module": identity.module_tarball,
        "sbom": identity.sbom,
        "provenance": identity.names.provenance,
        "sha256": identity.checksums,
    }
    values = {
        "stem": identity.stem,
        "release": identity.release,
        "glibc": manifest.glibc,
        "up-to-date": str(outcome.up_to_date).lower(),
        "directory": str(directory),
        "manifest": str(outcome.manifest_path),
        **{key: str(directory / name) for key, name in names.items() if name in published},
    }
    return {key: values.get(key, "") for key in OUTPUTS}


def _print_spack(spack: SpackBuild) -> None:
    if not spack.packages:
        return
    rows = [
        (f"{package.name}@{package.version}", duration(package.seconds), _origin(package))
        for package in _slowest(spack)
    ]
    print_line("")
    print_table(("Package", "Time", "From"), rows, right=("Time",))
    print_line(f"\n{_caches(spack)}")


def _print_files(files: Sequence[File]) -> None:
    """With complete checksums: folded text can neither be searched for nor copied."""
    columns = ("File", "Size", "SHA-256")
    rows = [(f.name, file_size(f.size), f.sha256) for f in files]
    gaps = GAP * len(columns)
    if gaps + sum(max(map(len, column)) for column in zip(*rows, strict=True)) > terminal_width():
        below = [((f.name, f.sha256), file_size(f.size)) for f in files]
        print_table(("File and SHA-256", "Size"), below, right=("Size",))
        return
    print_table(columns, rows, right=("Size",))


def _print_use(manifest: Path, identity: PackageIdentity) -> None:
    from slurm_factory.package.deployment import (  # noqa: PLC0415  # slow to import
        DEPLOYMENT,
        SCRIPT,
    )

    # Root finds by its name only what root has built.
    package = shlex.quote(str(manifest)) if os.geteuid() else identity.stem
    software, script = identity.software_tarball, "software" / DEPLOYMENT / SCRIPT
    print_line(
        "\nTo deploy it, as root; with --role controller,compute --config NAME --start, it runs a"
        " cluster\nof this machine:\n"
    )
    print_line(f"  slurm-factory deploy {package}")
    print_line(f"  module use /opt/slurm/modules && module load {identity.module}")
    print_line("\nThe same on a machine without slurm-factory, where these files are:\n")
    print_line(f"  tar -xzf {software} --strip-components={len(script.parents) - 1} {script}")
    print_line(f"  sh {SCRIPT} {software}")


def summarize(lines: Sequence[str], reporter: Reporter) -> None:
    """The summary only repeats other output: a build does not fail without it."""
    try:
        github.add_summary("\n".join(lines))
    except OutputError as error:
        reporter.warning(f"{error.brief} {error.details}")


def _markdown(outcome: Outcome, steps: Sequence[StepRecord]) -> list[str]:
    """The section of a build in the GitHub job summary."""
    manifest, plain = outcome.manifest, github.plain
    identity = manifest.identity
    state = f"{_up_to_date(outcome)}." if outcome.up_to_date else "Built."
    lines = [
        f"### {plain(identity.stem)}",
        "",
        f"Slurm {plain(identity.release)} on {plain(identity.base)}. {plain(state)}"
        + (f" {plain(_needs(manifest))}." if manifest.glibc else ""),
        "",
        f"{plain(_known_advisories(manifest))}.",
        "",
        "| File | Size | SHA-256 |",
        "| --- | ---: | --- |",
    ]
    lines += [f"| {plain(f.name)} | {file_size(f.size)} | `{f.sha256}` |" for f in manifest.files]
    lines += ["", f"Manifest: {plain(str(outcome.manifest_path))}", *_markdown_steps(steps)]
    if manifest.spack and manifest.spack.packages and not outcome.up_to_date:
        lines += ["", "| Package | Time | From |", "| --- | ---: | --- |"]
        lines += [
            f"| {plain(f'{p.name}@{p.version}')} | {duration(p.seconds)} | {_origin(p)} |"
            for p in _slowest(manifest.spack)
        ]
        lines += ["", plain(_caches(manifest.spack))]
    return lines


def _markdown_steps(steps: Sequence[StepRecord]) -> list[str]:
    if not steps:
        return []
    rows = [
        f"| {'&nbsp;' * 2 * step.depth}{github.plain(step.name)} | {duration(step.seconds)}"
        f" | {step.outcome} |"
        for step in steps
    ]
    return ["", "| Step | Time | |", "| --- | ---: | --- |", *rows]


def _step_rows(steps: Sequence[StepRecord]) -> list[tuple[str, str]]:
    endings = ["" if step.outcome == "done" else f" ({step.outcome})" for step in steps]
    return [
        (f"{'  ' * step.depth}{step.name}{ending}", duration(step.seconds))
        for step, ending in zip(steps, endings, strict=True)
    ]


def _up_to_date(outcome: Outcome) -> str:
    return f"{outcome.manifest.identity.stem} of {outcome.manifest.created:%Y-%m-%d} is up to date"


def _slowest(spack: SpackBuild) -> Sequence[SpackPackage]:
    return sorted(spack.packages, key=lambda package: -package.seconds)[:PACKAGES_SHOWN]


def _origin(package: SpackPackage) -> str:
    return "build cache" if package.cached else "source"


def _caches(spack: SpackBuild) -> str:
    """Such as `23 of 24 packages from the build cache (96%), 9 of 9 compilations from …`."""
    parts = [_share(spack.cached, len(spack.packages), "packages from the build cache")]
    wanted = max((use.wanted for use in spack.buildcaches), default=0)
    if wanted:
        parts.append(_share(spack.taken, wanted, "missing packages from remote build caches"))
    hits = spack.compiler_cache_hits
    compilations = hits + spack.compiler_cache_misses
    if compilations:
        parts.append(_share(hits, compilations, "compilations from ccache"))
    return ", ".join(parts)


def _share(part: int, whole: int, what: str) -> str:
    return f"{part} of {whole} {what} ({part / whole:.0%})"


def _known_advisories(manifest: Manifest) -> str:
    """Such as `Slurm 24.11.5+deb13u1: no known advisories, 8 fixed by patches`."""
    known, release = known_now(manifest), manifest.identity.release
    fixed = manifest.security.fixed if manifest.security else ()
    by_patches = f", {len(fixed)} fixed by patches" if fixed else ""
    having = f"{len(known)} known advisories ({named(known)})" if known else "no known advisories"
    suspected = suspected_now(manifest)
    may_have = f", {len(suspected)} unconfirmed ({named(suspected)})" if suspected else ""
    return f"Slurm {release}: {having}{may_have}{by_patches}"


def _needs(manifest: Manifest) -> str:
    having = ", ".join(manifest.distributions)
    return f"Needs glibc {manifest.glibc} or newer" + (f": {having}" if having else "")


# --- prefetch, list, versions -------------------------------------------------------------------


def print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    """Print what a verification has found, check by check."""
    found = verdict.verification
    if as_json:
        document = found.model_dump(mode="json")
        print_document(
            {
                "verification": document | {"passed": found.passed},
                "distributions": list(verdict.distributions),
                "path": verdict.path,
                "log": verdict.log,
            }
        )
        return
    rows = [("files", *_check_row(check)) for check in found.static]
    for trial in found.trials:
        for place in trial.places:
            rows += [(f"{trial.title} {place.prefix}", *_check_row(c)) for c in place.checks]
    for upgrade in found.upgrades:
        rows += [(f"{upgrade.distro} upgrade", *_check_row(check)) for check in upgrade.checks]
    print_table(("Where", "Check", "Result", "Time", "Found"), rows, right=("Time",))
    if verdict.distributions:
        print_line(f"\nStarts on {', '.join(verdict.distributions)} (glibc {found.glibc}).")
    for trial in found.trials:
        ran = "A cluster ran" if trial.passed else "A cluster failed"
        print_line(f"{ran} on {trial.title} (glibc {trial.glibc}) in {trial.seconds:.0f} s.")
    if found.suite:
        print_line(_suite_line(found.suite))
    if verdict.path:
        print_line(f"{verdict.path}")


def _suite_line(suite: Suite) -> str:
    plain, package = (list(side.values()).count("passed") for side in (suite.plain, suite.package))
    worse = f"; plain only: {', '.join(suite.worse)}" if suite.worse else ""
    return (
        f"SchedMD's tests: {len(suite.plain)}, plain passes {plain}, the package passes"
        f" {package}{worse}."
    )


def _check_row(check: Check) -> tuple[str, ...]:
    return check.name, check.result, f"{check.seconds:.1f} s", check.brief


def print_prefetched(prefetched: Prefetched, plans: Sequence[BuildPlan], *, as_json: bool) -> None:
    """Print the content of the caches, and what is missing.

    Args:
        prefetched: The fetched files.
        plans: The plans that need them.
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
    use = "copy it to the machine that runs build --offline, or run that here"
    print_line(f"{have}: {'some files are missing' if failures else use}.")


def print_builds(
    artifacts: Sequence[PublishedArtifact],
    standings: Mapping[Path, Standing],
    *,
    as_json: bool,
) -> None:
    """Print the finished builds, and the unusable ones with the reason."""
    if as_json:
        print_document(
            {"builds": [_build_facts(each, standings.get(each.path)) for each in artifacts]}
        )
        return
    print_table(
        ("Build", "Release", "Size", "glibc", "Built", "State"),
        [_build_row(each, standings.get(each.path)) for each in artifacts],
        right=("Size",),
        empty="There are no finished builds.",
    )


def _build_facts(artifact: PublishedArtifact, standing: Standing | None) -> dict[str, Any]:
    manifest = artifact.manifest
    directory = artifact.path.parent
    return {
        "manifest_path": artifact.path,
        "state": "unusable" if artifact.problem else "complete",
        "problem": artifact.problem,
        "identity": manifest and manifest.identity.model_dump(mode="json"),
        "size": manifest and manifest.files[0].size,
        "glibc": manifest and manifest.glibc,
        "created": manifest and manifest.created.isoformat(),
        "verified": list(manifest.verified.on) if manifest and manifest.verified else [],
        "signature": standing and _standing_facts(standing),
        "advisories": [each.id for each in known_now(manifest)] if manifest else [],
        "suspected": [each.id for each in suspected_now(manifest)] if manifest else [],
        "advisories_at_build": [each.id for each in manifest.security.advisories]
        if manifest and manifest.security
        else None,
        "files": [{"path": directory / f.name, **f.model_dump()} for f in manifest.files]
        if manifest
        else [],
    }


def _build_row(artifact: PublishedArtifact, standing: Standing | None) -> tuple[str, ...]:
    manifest = artifact.manifest
    return (
        str(artifact.path).removesuffix(MANIFEST_END),
        manifest.identity.release if manifest else "",
        file_size(manifest.files[0].size) if manifest else "",
        manifest.glibc if manifest else "",
        f"{manifest.created:%Y-%m-%d %H:%M}" if manifest else "",
        artifact.problem or (_condition(manifest, standing) if manifest else ""),
    )


def _condition(manifest: Manifest, standing: Standing | None) -> str:
    if standing and standing.state == "refused":
        return f"refused: {standing.problem}"
    signed = ""
    if standing and standing.state != "unsigned":
        signed = f", signed by {standing.signature.by}" if standing.signature else ", signed"
    return f"{_health(manifest)}{signed}"


def _standing_facts(standing: Standing) -> dict[str, Any]:
    signature = standing.signature
    return {
        "state": standing.state,
        "by": signature.by if signature else "",
        "key": signature.key if signature else "",
        "at": signature.at.isoformat() if signature else None,
        "problem": standing.problem,
    }


def _signed(standing: Standing | None) -> str:
    if standing is None or standing.state == "unsigned":
        return "Not signed"
    if standing.signature:
        return f"Signed by {standing.signature.brief}"
    if standing.problem:
        return f"Refused: {standing.problem}"
    return "Signed, which was not checked: nobody is trusted here (trusted_keys)"


def _health(manifest: Manifest) -> str:
    """Whether a package is complete or verified, and whether advisories are known of it."""
    known, suspected = known_now(manifest), suspected_now(manifest)
    if not known:
        whole = "verified" if manifest.verified else "complete"
        return f"{whole}, {len(suspected)} unconfirmed advisories" if suspected else whole
    then = {each.id for each in manifest.security.advisories} if manifest.security else None
    later = [each for each in known if then is not None and each.id not in then]
    return f"vulnerable: {named(known)}" + (f", {len(later)} since it was built" if later else "")


# --- publish, fetch -----------------------------------------------------------------------------


def print_published(published: Published, store: str, *, as_json: bool) -> None:
    """Print what has come into a store, and what has left it."""
    groups = {
        "published": published.added,
        "unchanged": published.unchanged,
        "removed": published.removed,
        "not_kept": published.not_kept,
    }
    if as_json:
        facts = {name: [_stored_facts(each) for each in group] for name, group in groups.items()}
        print_document({"store": store, **facts})
        return
    rows = [
        (package.stem, file_size(package.size), name.replace("_", " "))
        for name, group in groups.items()
        for package in group
    ]
    print_table(("Package", "Size", "State"), rows, right=("Size",))
    print_line(f"\n{store}")


def print_store(index: Index, store: str, *, as_json: bool) -> None:
    """Print what a store has."""
    if as_json:
        print_document({"store": store, "packages": [_stored_facts(p) for p in index.packages]})
        return
    print_table(
        ("Package", "Release", "Architecture", "glibc", "Size", "Published", "State"),
        [
            (
                *(package.stem, package.identity.release, package.identity.arch, package.glibc),
                *(file_size(package.size), f"{package.published:%Y-%m-%d}"),
                _stored_health(package),
            )
            for package in index.packages
        ],
        right=("Size",),
        empty="The store has no packages.",
    )


def print_fetched(fetched: Fetched, store: str, *, as_json: bool) -> None:
    """Print where a package is now, and how to install it."""
    package, manifest = fetched.package, fetched.manifest
    if as_json:
        print_document(
            {
                "store": store,
                "up_to_date": fetched.up_to_date,
                "manifest_path": fetched.manifest_path,
                "manifest": manifest.model_dump(mode="json"),
                "package": _stored_facts(package),
            }
        )
        return
    if fetched.up_to_date:
        print_line(f"{package.stem} is up to date.")
    print_line(f"{fetched.manifest_path.parent}")
    _print_files(manifest.files)
    if manifest.glibc:
        print_line(f"\n{_needs(manifest)}")
    print_line(_known_advisories(manifest))
    _print_use(fetched.manifest_path.parent, manifest.identity)


def _stored_facts(package: StoredPackage) -> dict[str, Any]:
    return {
        **package.model_dump(mode="json"),
        "size": package.size,
        "advisories_now": [each.id for each in package.advisories_now()],
        "suspected_now": [each.id for each in package.suspected_now()],
    }


def _stored_health(package: StoredPackage) -> str:
    """As `_health`, by what the index of a store tells."""
    parts = ["verified"] if package.verified_on else []
    parts += ["has a signature"] if package.has_signature else []
    known, suspected = package.advisories_now(), package.suspected_now()
    if known:
        later = len({each.id for each in known} - {*package.advisories})
        since = f", {later} since it was published" if later else ""
        parts.append(f"vulnerable: {named(known)}{since}")
    elif suspected:
        parts.append(f"{len(suspected)} unconfirmed advisories")
    return ", ".join(parts) or "complete"


def print_reports(
    reports: Sequence[Report],
    standings: Mapping[Path, Standing],
    now: datetime,
    *,
    advisory: str = "",
    as_json: bool,
) -> None:
    """Print what is known of packages.

    Args:
        reports: The packages.
        standings: What can be said about their signatures, by their manifests.
        now: Decides how old they are.
        advisory: Print only the names of packages that have it, with the reason.
        as_json: Print a document instead.
    """
    # Of these, nobody can say that they are free of holes.
    not_looked_up = [each.path.name.removesuffix(MANIFEST_END) for each in reports if each.has_gaps]
    if advisory:
        reports = [each for each in reports if each.has(advisory)]
    if as_json:
        print_document(
            {
                "packages": [
                    _report_facts(each, standings.get(each.path), now) for each in reports
                ],
                "not_looked_up": not_looked_up,
            }
        )
    elif advisory:
        rows = [
            (str(each.path).removesuffix(MANIFEST_END), _why(each, advisory)) for each in reports
        ]
        but = f" Not looked up: {' '.join(not_looked_up)}." if not_looked_up else ""
        print_table(("Package", "Because of"), rows, empty=f"No package has {advisory}.{but}")
    else:
        for each in reports:
            _print_report(each, standings.get(each.path), now)
        if not reports:
            print_line("There are no finished packages.")


def _print_report(report: Report, standing: Standing | None, now: datetime) -> None:
    manifest = report.manifest
    identity = manifest.identity
    print_line(str(report.path).removesuffix(MANIFEST_END))
    print_line(f"  {_known_advisories(manifest)}")
    for advisory in report.advisories:
        print_line(f"    {advisory.id}: {advisory.summary}")
    age = (now - manifest.created).days
    print_line(f"  Built {manifest.created:%Y-%m-%d}, {age} days ago, on {identity.base}")
    if manifest.glibc:
        print_line(f"  {_needs(manifest)}")
    print_line(f"  {_verified(manifest)}")
    print_line(f"  {_signed(standing)}")
    print_line(f"  Features: {' '.join(manifest.features)}")
    looked_up = any(each.findings is not None for each in report.libraries)
    rows = [
        (each.name, each.version, str(len(each.files)), *[_shown_findings(each)] * looked_up)
        for each in report.libraries
    ]
    print_line("")
    columns = ("Library", "Version", "Files", *["Advisories"] * looked_up)
    print_table(columns, rows, right=("Files",))
    print_line("")


def _verified(manifest: Manifest) -> str:
    if not manifest.verified:
        return "Not verified"
    return f"Verified on {', '.join(manifest.verified.on)} ({manifest.verified.at:%Y-%m-%d})"


def _shown_findings(library: Library) -> str:
    if library.findings is None:
        return ""
    texts = (f"{f.id} (fixed in {f.fixed_in})" if f.fixed_in else f.id for f in library.findings)
    return ", ".join(texts) or "none"


def _why(report: Report, advisory: str) -> str:
    """What of a package has an advisory."""
    slurm = f"Slurm {report.manifest.identity.release}"
    parts = [slurm] * (advisory in {each.id for each in report.advisories})
    parts += [f"{slurm}, unconfirmed"] * (advisory in {each.id for each in report.suspected})
    for library in report.libraries:
        for finding in library.findings or ():
            if finding.id == advisory:
                fixed = f", fixed in {finding.fixed_in}" if finding.fixed_in else ""
                parts.append(f"{library.name} {library.version}{fixed}")
    return "; ".join(parts)


def _report_facts(report: Report, standing: Standing | None, now: datetime) -> dict[str, Any]:
    manifest = report.manifest
    return {
        "manifest_path": report.path,
        "identity": manifest.identity.model_dump(mode="json"),
        "created": manifest.created.isoformat(),
        "age_days": (now - manifest.created).days,
        "verified": list(manifest.verified.on) if manifest.verified else [],
        "signature": standing and _standing_facts(standing),
        "glibc": manifest.glibc,
        "features": manifest.features,
        "advisories": [each.id for each in report.advisories],
        "suspected": [each.id for each in report.suspected],
        "libraries": [asdict(each) for each in report.libraries],
    }


def print_comparison(found: Comparison, *, as_json: bool) -> None:
    """Print what differs between two packages."""
    if as_json:
        print_document({"comparison": _comparison_facts(found)})
        return
    print_line(f"A: {_compared(found.a)}\nB: {_compared(found.b)}\n")
    print_table(("", "A", "B", "Change"), [*_comparison_rows(found)])
    print_line("")
    if found.features is not None:
        for what, names in (
            ("gained", [each.name for each in found.features if each.a is None]),
            ("lost", [each.name for each in found.features if each.b is None]),
        ):
            print_line(f"Features {what}: {' '.join(names) or 'none'}")
    if found.advisories is not None:
        _print_advisories("B only", [each for each in found.advisories if each.a is None])
        _print_advisories("A only", [each for each in found.advisories if each.b is None])
    _print_components(found)
    _print_changed_files(found)


def _compared(side: Side) -> str:
    path = str(side.path).removesuffix(MANIFEST_END)
    return path if side.manifest else f"{path} (without a manifest: much is unknown)"


def _print_advisories(where: str, changes: Sequence[Change[str]]) -> None:
    print_line(f"Advisories of {where}: {'' if changes else 'none'}".rstrip())
    for each in changes:
        print_line(f"  {each.name}: {each.a or each.b}")


def _print_components(found: Comparison) -> None:
    if found.components is None or found.a.components is None:
        return
    same = len(found.a.components) - sum(each.a is not None for each in found.components)
    rows = [
        (each.name, ", ".join(each.a or ("none",)), ", ".join(each.b or ("none",)))
        for each in found.components
    ]
    if rows:
        print_line("")
        print_table(("Component", "A", "B"), rows)
    print_line(f"\nComponents: {len(rows)} differ, {same} are the same.")


def _print_changed_files(found: Comparison) -> None:
    if found.files is None or found.a.files is None:
        without = " ".join(
            side for side, of in (("A", found.a), ("B", found.b)) if of.files is None
        )
        print_line(f"Files are not compared: there is no tarball of {without}.")
        return
    added = [each for each in found.files if each.a is None]
    removed = [each for each in found.files if each.b is None]
    changed = len(found.files) - len(added) - len(removed)
    same = len(found.a.files) - changed - len(removed)
    print_line(
        f"Files: {len(added)} added, {len(removed)} removed, {changed} changed in size, {same} of"
        " the same size."
    )
    if not found.files:
        return
    most = sorted(found.files, key=lambda each: -abs((each.b or 0) - (each.a or 0)))[:FILES_SHOWN]
    rows = [
        (each.name, _size_or_none(each.a), _size_or_none(each.b), _grown(each.a or 0, each.b or 0))
        for each in most
    ]
    print_line("")
    print_table(("File", "A", "B", "Change"), rows, right=("A", "B", "Change"))
    if len(found.files) > len(most):
        print_line(f"\n{len(found.files) - len(most)} smaller changes: --json has all.")


def _comparison_rows(found: Comparison) -> Iterator[tuple[str, ...]]:
    texts = zip(_side_texts(found.a).items(), _side_texts(found.b).values(), strict=True)
    for (name, a), b in texts:
        yield name, a or UNKNOWN, b or UNKNOWN, "differs" if a and b and a != b else ""
    sizes = (
        ("Tarball", found.a.size, found.b.size),
        ("Unpacked", found.a.unpacked, found.b.unpacked),
    )
    for name, x, y in sizes:
        grown = "" if x is None or y is None else _grown(x, y)
        yield name, *(UNKNOWN if size is None else file_size(size) for size in (x, y)), grown
    counts = (
        ("Files", found.a.files, found.b.files),
        ("Features", found.a.features, found.b.features),
        ("Components", found.a.components, found.b.components),
        ("Advisories", found.a.advisories, found.b.advisories),
    )
    for name, these, those in counts:
        more = "" if these is None or those is None else len(those) - len(these)
        shown_counts = (UNKNOWN if each is None else str(len(each)) for each in (these, those))
        yield name, *shown_counts, f"{more:+}" if more else ""


def _side_texts(side: Side) -> dict[str, str]:
    """What is known of a package, in words."""
    identity, manifest = side.identity, side.manifest
    verified = manifest.verified.on if manifest and manifest.verified else ("nothing",)
    return {
        "Slurm": identity.release if identity else "",
        "Type": str(identity.build_type) if identity else "",
        "Base": identity.base if identity else "",
        "Libraries": str(identity.deps) if identity else "",
        "Architecture": identity.arch if identity else "",
        "CPU": identity.cpu if identity else "",
        "Needs glibc": manifest.glibc if manifest else "",
        "Built": f"{manifest.created:%Y-%m-%d}" if manifest else "",
        "Verified on": ", ".join(verified) if manifest else "",
    }


def _length(of: Sized | None) -> int | None:
    return None if of is None else len(of)


def _size_or_none(size: int | None) -> str:
    return "none" if size is None else file_size(size)


def _grown(a: int, b: int) -> str:
    """Such as `+1.2 MB (+8%)`."""
    if a == b:
        return ""
    sign = "+" if b > a else "-"
    return f"{sign}{file_size(abs(b - a))}" + (f" ({(b - a) / a:+.0%})" if a else "")


def _comparison_facts(found: Comparison) -> dict[str, Any]:
    return {
        "a": _side_facts(found.a),
        "b": _side_facts(found.b),
        **{
            name: changes
            if changes is None
            else {
                "added": [{"name": c.name, "b": c.b} for c in changes if c.a is None],
                "removed": [{"name": c.name, "a": c.a} for c in changes if c.b is None],
                "changed": [asdict(c) for c in changes if c.a is not None and c.b is not None],
            }
            for name, changes in (
                ("features", found.features),
                ("components", found.components),
                ("advisories", found.advisories),
                ("files", found.files),
            )
        },
    }


def _side_facts(side: Side) -> dict[str, Any]:
    manifest = side.manifest
    return {
        "name": side.name,
        "path": side.path,
        "has_manifest": manifest is not None,
        "identity": side.identity and side.identity.model_dump(mode="json"),
        "created": manifest and manifest.created.isoformat(),
        "glibc": manifest and manifest.glibc,
        "verified": manifest and (list(manifest.verified.on) if manifest.verified else []),
        "size": side.size,
        "unpacked_size": side.unpacked,
        "files": _length(side.files),
        "features": side.features,
        "components": side.components,
        "advisories": None if side.advisories is None else list(side.advisories),
    }


def print_reproduction(found: Reproduction, *, as_json: bool) -> None:
    """Print what came of building a package again."""
    if as_json:
        verdict = {"identical": found.identical, "explained": found.explained}
        print_document({"reproduction": asdict(found) | verdict})
        return
    print_line(f"{found.stem}: {'identical' if found.identical else 'different'}")
    how = "with results of earlier builds" if found.caches else "without results of earlier builds"
    print_line(f"built again in {duration(found.seconds)}, {how}\n")
    rows = [(file.name, _compared_state(file)) for file in found.files]
    print_table(("File", "Bytes"), rows)
    for file in found.files:
        _print_differences(file)
    if not found.identical:
        _print_causes(found)
        print_line(f"\nbuilt again: {found.kept}")
    for report in found.diffoscope:
        print_line(f"diffoscope: {report}")


def _compared_state(file: ComparedFile) -> str:
    if file.problem:
        return f"{'identical' if file.identical else 'different'}, but {file.problem}"
    if file.identical:
        return "identical"
    if not file.built:
        return "not built"
    paths = len({each.path for each in file.differences})
    if file.members is None or not any(each.path for each in file.differences):
        return "different"
    return f"different: {paths} of {file.members} files and directories"


def _print_differences(file: ComparedFile) -> None:
    if not file.differences:
        return
    # What nothing explains comes first.
    ordered = sorted(file.differences, key=lambda each: each.explained)
    print_line(f"\nIn {file.name}:")
    for each in ordered[:FILES_SHOWN]:
        print_line(f"  {_difference(each)}")
    if len(ordered) > FILES_SHOWN:
        print_line(f"  {len(ordered) - FILES_SHOWN} more: --json has all.")


def _difference(each: Found) -> str:
    where = f"{each.path}: " if each.path else ""
    return f"{where}{each.what}: {each.detail}{'' if each.explained else ' (unexplained)'}"


def _print_causes(found: Reproduction) -> None:
    if not found.causes:
        print_line(
            "\nNothing else is known to differ: program, plan, source and base are the same."
        )
        return
    print_line("\nOther here than for the package:\n")
    rows = [(c.kind, c.name, c.package, c.built) for c in found.causes[:FILES_SHOWN]]
    print_table(("Where", "What", "Package", "Here"), rows)
    if len(found.causes) > FILES_SHOWN:
        print_line(f"\n{len(found.causes) - FILES_SHOWN} more: --json has all.")
    if found.explained:
        print_line("\nThis may explain all of it.")
    elif any(not each.explained for file in found.files for each in file.differences):
        print_line("\nThis does not explain what is marked as unexplained.")
    else:
        print_line("\nThis does not explain why the package is not what its manifest says.")


def print_versions(
    catalog: Sequence[Release], today: date, *, new: Sequence[Release] = (), as_json: bool
) -> None:
    """Print the available releases, with their known advisories.

    Args:
        catalog: The releases.
        today: Decides which series are supported.
        new: Those that have just been found.
        as_json: Print a document instead.
    """
    series = {
        name: [release for release in catalog if release.series == name]
        for name in releases.series(catalog)
    }
    if as_json:
        newest = [
            {
                "series": name,
                "newest": members[-1].release,
                "date": members[-1].date,
                "support_ends": support_ends(name),
                "supported": is_supported(name, today),
            }
            for name, members in series.items()
        ]
        every = [_release_facts(release, today, catalog) for release in catalog]
        known = [each.model_dump(mode="json") for each in advisories()]
        found = [release.release for release in new]
        print_document({"series": newest, "releases": every, "advisories": known, "new": found})
        return
    for release in new:
        print_line(f"new: Slurm {release.release} of {release.date}, SHA-256 {release.sha256}")
    rows = [
        (name, members[-1].release, members[-1].date, _support(name, today))
        for name, members in series.items()
    ]
    print_table(("Series", "Newest", "Date", "Support"), rows)
    print_line("")
    states = [(r.release, r.date, *_release_state(r, today, catalog)) for r in catalog]
    print_table(("Release", "Date", "Known advisories", "Fixed in"), states)
    print_line("")
    summaries = [(each.id, str(each.date), each.summary) for each in advisories()]
    print_table(("Advisory", "Date", "What it lets others do"), summaries)


def _support(of: str, today: date) -> str:
    ends = support_ends(of)
    if ends is None:
        return "supported"
    return f"until {ends}" if is_supported(of, today) else f"ended {ends}"


def _release_facts(release: Release, today: date, catalog: Sequence[Release]) -> dict[str, Any]:
    known = known_advisories(release.release, release.backported)
    supported = is_supported(release.series, today)
    return {
        **release.model_dump(mode="json"),
        "state": "vulnerable" if known else "supported" if supported else "ended",
        "advisories": [each.id for each in known],
        "suspected": [
            each.id for each in suspected_advisories(release.release, release.backported)
        ],
        "fixed_in": way_out(release.release, today, catalog) if known else "",
    }


def _release_state(release: Release, today: date, catalog: Sequence[Release]) -> tuple[str, str]:
    """The known advisories of a release as it is built by default, and the release to take."""
    known = known_advisories(release.release, release.backported)
    if known:
        return named(known), way_out(release.release, today, catalog)
    none = f"none with +{release.backports.name}" if release.backports else "none"
    suspected = suspected_advisories(release.release, release.backported)
    return f"{none}, {len(suspected)} unconfirmed" if suspected else none, ""


# --- setup, doctor, clean -----------------------------------------------------------------------


def print_setup(result: SetupResult, *, check: bool, as_json: bool) -> None:
    """Print the steps of a setup and their states.

    Args:
        result: The result of a setup.
        check: Whether setup only checked.
        as_json: Print a document instead.
    """
    if as_json:
        print_document(asdict(result))
        return
    for step in result.steps:
        state = ("missing" if check else "done") if step.needed else "ok"
        print_line(f"{state:8} {step.name}: {step.why}")


def print_checks(checks: Sequence[HostCheck], *, as_json: bool) -> None:
    """Print the checks of doctor, with the commands that fix problems."""
    if as_json:
        print_document({"checks": [asdict(check) for check in checks]})
        return
    for check in checks:
        print_line(f"{check.status:8} {check.name}: {check.message}")
        if check.fix_command:
            print_line(f"{'':8} fix: {as_called(check.fix_command)}")


def print_settings(found: EffectiveSettings, file: Path, *, as_json: bool) -> None:
    """Print settings with their origins.

    Args:
        found: The settings.
        file: The settings file, which need not exist.
        as_json: Print a document instead.
    """
    if as_json:
        settings = [
            {
                "name": each.name,
                "value": each.value,
                "source": each.source,
                "where": each.where,
                "problem": each.problem and describe(each.problem),
            }
            for each in found.settings
        ]
        problems = [describe(each) for each in found.problems]
        there = file.is_file()
        print_document(
            {"file": file, "file_exists": there, "settings": settings, "problems": problems}
        )
        return
    rows = [
        (each.name, _setting_value(each.value), each.where or each.source, _state(each))
        for each in found.settings
    ]
    wrong = any(each.problem for each in found.settings)
    columns = ("Setting", "Value", "From", "State")
    print_table(columns, rows) if wrong else print_table(columns[:3], [row[:3] for row in rows])
    print_line(f"\nsettings file: {file}{'' if file.is_file() else ' (there is none)'}")


def _setting_value(value: object) -> str:
    """As it is written into the environment."""
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _state(setting: Effective) -> str:
    return "wrong" if setting.problem else "ok"


def print_removals(removals: Sequence[Removal]) -> None:
    """Print what clean will remove."""
    sizes = ["" if removal.size is None else file_size(removal.size) for removal in removals]
    rows = [(r.kind, r.name, size) for r, size in zip(removals, sizes, strict=True)]
    print_table(
        ("What", "Name", "Size"), rows, right=("Size",), empty="There is nothing to remove."
    )


def print_cleaned(plan: CleanPlan, *, dry_run: bool) -> None:
    """Print the document of what clean has removed or would remove."""
    print_document({"dry_run": dry_run, **asdict(plan)})
