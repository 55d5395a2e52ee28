"""Commands about packages of several machines, and about many packages, which main registers."""

from __future__ import annotations

from typing import Annotated

import typer

from slurm_factory import options
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.session import Elsewhere, require_readable, session


def matrix(
    *,
    file: options.MatrixFile = None,
    series: options.SeriesList = "",
    types: options.TypeList = "",
    bases: options.BaseList = "",
    deps: options.DepsList = "",
    archs: options.ArchList = "",
    exclude: options.Exclude = None,
    parallel: options.Parallel = None,
    jobs: options.CellJobs = None,
    offline: options.Offline = False,
    strict: options.Strict = False,
    force: options.Force = False,
    verify: options.Verify = False,
    sign: options.Sign = "",
    fail_fast: options.FailFast = False,
    remote: options.Remote = None,
    target: options.Target = None,
    notify: options.Notify = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the cells, and which are up to date.",
            rich_help_panel=options.BUILDING,
        ),
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Build many packages, several at a time."""
    there = Elsewhere(remote, target)
    with session(as_json=as_json, verbose=verbose, quiet=quiet, there=there) as (
        reporter,
        settings,
    ):
        from slurm_factory import farm_answers as answers
        from slurm_factory.farm import matrix as farming
        from slurm_factory.farm.cells import MatrixSpec
        from slurm_factory.farm.matrix_file import read_matrix, with_options
        from slurm_factory.farm.notify import check_targets, notify_all
        from slurm_factory.package.signatures import choose_key
        from slurm_factory.request import BuildOptions

        check_targets(notify or ())
        spec = with_options(
            read_matrix(file) if file else MatrixSpec(),
            series=_listed(series),
            types=_listed(types),
            bases=_listed(bases),
            deps=_listed(deps),
            archs=_listed(archs),
            exclude=exclude,
        )
        request = farming.MatrixRequest(
            spec,
            BuildOptions(offline=offline),
            parallel=parallel,
            jobs=jobs,
            force=force,
            verify=verify,
            sign="" if dry_run else choose_key(sign, settings),
            strict=strict,
            fail_fast=fail_fast,
        )
        reporter.subject = farming.NAME
        with farming.open_engine(request, settings, reporter) as engine:
            planned = farming.plan_matrix(request, engine, settings, reporter)
            if dry_run:
                answers.print_cells(planned, as_json=as_json)
                return
            result = farming.run_matrix(planned, request, engine, settings, reporter)
        document = answers.print_matrix(result, reporter, as_json=as_json)
        notify_all(notify or (), document, reporter)
        if result.exit_code:
            raise typer.Exit(result.exit_code)


def _listed(text: str) -> tuple[str, ...] | None:
    """The values of a list with commas; None: it was not given."""
    return tuple(filter(None, (word.strip() for word in text.split(",")))) or None


def reproduce(
    *,
    package: options.Package,
    source: options.GivenSource = "",
    patch: options.GivenPatch = None,
    with_caches: options.WithCaches = False,
    destructive_mode: options.Destructive = False,
    jobs: options.Jobs = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Build a package again, and compare the bytes."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.reproduce import reproduce as reproducing
        from slurm_factory.reproduce.again import Given

        given = Given(
            patches=tuple(patch or ()),
            source=source,
            destructive_mode=destructive_mode,
            jobs=jobs,
            offline=offline,
            caches=with_caches,
        )
        found = reproducing.reproduce(package, given, settings, reporter)
        answers.print_reproduction(found, as_json=as_json)
        if error := reproducing.failure(found):
            reporter.error(error)
            answers.summarize_failure(found.stem, error, reporter)
            raise typer.Exit(error.exit_code)


def publish(
    *,
    packages: options.PublishedPackages,
    keep: options.NewestInStore = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish packages to a store."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.findings import select
        from slurm_factory.package.publish import find_artifacts
        from slurm_factory.stores.places import open_to_publish
        from slurm_factory.stores.publish import publish as publish_to

        names = [word for word in packages if "://" not in word]
        urls = [word for word in packages if "://" in word]
        if len(urls) > 1 or not names:
            raise ConfigurationError(
                "publish needs packages, and one URL of a store.",
                details=f"Here: {len(names)} packages, {len(urls)} URLs.",
                resolution="Write `slurm-factory publish PACKAGE URL`; `slurm-factory list` names"
                " the packages.",
            )
        require_readable(settings.cache_dir)
        store = open_to_publish(urls[0] if urls else "", settings)
        reporter.subject = store.shown
        chosen = select(find_artifacts(settings.builds_dir), names)
        manifests = [artifact.path for artifact in chosen]
        published = publish_to(manifests, store, settings, reporter, keep=keep)
        answers.print_published(published, store.shown, as_json=as_json)


def fetch(
    *,
    name: options.FetchedName = "",
    url: options.StoreUrl = "",
    show: options.ListStore = False,
    gpu: options.Gpu = False,
    minimal: options.Minimal = False,
    deps: options.AnyDeps = "",
    base: options.AnyBase = "",
    arch: options.AnyArch = "",
    glibc: options.HighestGlibc = "",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch a package from a store, or list what a store has."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.stores.fetch import Wanted, read_index
        from slurm_factory.stores.fetch import fetch as fetch_from
        from slurm_factory.stores.places import open_store

        if show and name and not url:
            name, url = "", name
        if show == bool(name):
            raise ConfigurationError(
                "fetch needs the name of a package or a release, or --list.",
                resolution="Write `slurm-factory fetch 25.05 URL`, or `slurm-factory fetch --list"
                " URL`.",
            )
        if gpu and minimal:
            raise ConfigurationError(
                "--gpu and --minimal exclude each other.", resolution="Omit one of them."
            )
        store = open_store(url, settings)
        if show:
            answers.print_store(read_index(store), store.shown, as_json=as_json)
            return
        wanted = Wanted(
            name=name,
            build_type="gpu" if gpu else "minimal" if minimal else "",
            deps=deps,
            base=base,
            arch=arch,
            glibc=glibc,
        )
        fetched = fetch_from(wanted, store, settings, reporter)
        answers.print_fetched(fetched, store.shown, as_json=as_json)
