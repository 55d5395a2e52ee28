"""Commands about packages of several machines, which main registers."""

from __future__ import annotations

import typer

from slurm_factory import options
from slurm_factory.session import session


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
