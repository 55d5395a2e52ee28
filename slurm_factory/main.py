"""The command line: arguments become requests, errors become exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from slurm_factory import completion, farm_commands, options, usage
from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS
from slurm_factory.exceptions import ConfigurationError, InterruptedBuildError, LXDError
from slurm_factory.session import (
    Elsewhere,
    Globals,
    exit_codes,
    lxd_of,
    reporting,
    require_readable,
    session,
    warn_of_unknown_variables,
)
from slurm_factory.util.signals import HELD, handle_endings

if TYPE_CHECKING:
    from slurm_factory.ci_cache import CiCache
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import BuildPlan, BuildRequest
    from slurm_factory.plan.releases import Release
    from slurm_factory.prefetch import Failure
    from slurm_factory.up_to_date import Outcome

app = usage.Application(
    name="slurm-factory",
    cls=usage.Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:  # typer calls it so
    if not asked:
        return
    from slurm_factory.output.reporter import make_reporter
    from slurm_factory.output.stdout import print_version

    with make_reporter() as reporter, exit_codes(reporter, as_json=False):
        print_version()
    raise typer.Exit


@app.callback()
def main(
    *,
    project_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="LXD project that holds all instances and images."),
    ] = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    version: Annotated[  # noqa: ARG001  # its callback prints
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            expose_value=False,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Turn a Slurm release into a package that works at any path on any cluster."""
    Globals.project_name, Globals.verbose, Globals.quiet = project_name, verbose, quiet


@app.command()
def build(
    *,
    slurm_version: options.Version = "",
    source: options.Source = "",
    gpu: options.Gpu = False,
    minimal: options.Minimal = False,
    additional_variants: options.Variants = "",
    deps: options.Deps = DEFAULT_DEPS.value,
    base: options.Base = DEFAULT_BASE,
    glibc: options.Glibc = "",
    arch: options.Arch = "",
    destructive_mode: options.Destructive = False,
    jobs: options.Jobs = None,
    offline: options.Offline = False,
    sha256: options.Sha256 = "",
    patch: options.Patch = None,
    suffix: options.Suffix = "",
    no_backports: options.NoBackports = False,
    strict: options.Strict = False,
    force: options.Force = False,
    keep_instance: options.Keep = False,
    verify: options.Verify = False,
    sign: options.Sign = "",
    remote: options.Remote = None,
    target: options.Target = None,
    dry_run: options.PlanOnly = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Build a package."""
    there = Elsewhere(remote, target)
    with session(as_json=as_json, verbose=verbose, quiet=quiet, there=there) as (
        reporter,
        settings,
    ):
        from slurm_factory import answers
        from slurm_factory.request import (
            BuildOptions,
            check_plan,
            open_machine,
            plan_request,
            read_request,
        )

        asked = BuildOptions(
            slurm_version=slurm_version,
            source=source,
            sha256=sha256,
            gpu=gpu,
            minimal=minimal,
            additional_variants=additional_variants,
            deps=deps,
            base=base,
            glibc=glibc,
            arch=arch,
            destructive_mode=destructive_mode,
            jobs=jobs,
            offline=offline,
            backports=not no_backports,
            patches=tuple(patch or ()),
            suffix=suffix,
        )
        with open_machine(asked, settings) as machine:
            request = read_request(asked, settings, reporter, machine=machine)
            plan = plan_request(request, machine)
            reporter.subject = plan.stem
            check_plan(plan, request.catalog, settings, reporter, strict=strict)
            if dry_run:
                answers.print_plan(plan, cache=_ci_cache(plan, settings) if as_json else None)
                return
            key = _signing_key(sign, settings)
            outcome = None if force else _find_finished(plan, request, settings, reporter)
            outcome = outcome or _build(plan, settings, reporter, keep_instance, offline)
        outcome = _verified(outcome, settings, reporter, key) if verify else outcome
        _sign(outcome, key, reporter)
        answers.print_outcome(outcome, reporter, as_json=as_json)


def _build(
    plan: BuildPlan, settings: Settings, reporter: Reporter, keep_instance: bool, offline: bool
) -> Outcome:
    from slurm_factory import builder

    return builder.build(plan, settings, reporter, keep_instance=keep_instance, offline=offline)


def _ci_cache(plan: BuildPlan, settings: Settings) -> CiCache:
    from slurm_factory.ci_cache import ci_cache

    return ci_cache(plan, settings)


def _signing_key(asked: str, settings: Settings) -> str:
    """The key to sign with, which works; empty: none."""
    if not (asked or settings.sign_key):
        return ""
    from slurm_factory.package.signatures import choose_key

    return choose_key(asked, settings)


def _sign(outcome: Outcome, key: str, reporter: Reporter) -> None:
    """Sign a finished package, unless this key has signed it as it is."""
    if not key:
        return
    from slurm_factory.package.signatures import is_signed_with, sign

    try:
        if not is_signed_with(outcome.manifest_path, key):
            sign(outcome.manifest_path, key)
    except (ConfigurationError, LXDError) as error:
        raise type(error)(
            f"The package is finished, and not signed: {outcome.manifest_path}",
            details=f"{error.brief} {error.details}",
            resolution=f"{error.resolution} Then run the same command again: it only signs.",
        ) from error
    reporter.note(f"Signed with the key {key}.")


def _verified(outcome: Outcome, settings: Settings, reporter: Reporter, key: str) -> Outcome:
    """The outcome of a build whose package has been verified, now or before."""
    if outcome.manifest.verified:
        return outcome
    from slurm_factory.package.manifest import load_manifest
    from slurm_factory.verify.package import find_package
    from slurm_factory.verify.verify import VerifyRequest, require_passed
    from slurm_factory.verify.verify import verify as check

    settings = settings.on_this_machine
    found = find_package(str(outcome.manifest_path), settings)
    request = VerifyRequest(found, sign_key=key)
    require_passed(check(request, settings, reporter))
    return replace(outcome, manifest=load_manifest(outcome.manifest_path))


def _find_finished(
    plan: BuildPlan, request: BuildRequest, settings: Settings, reporter: Reporter
) -> Outcome | None:
    """The package if it is up to date; what killed builds have left then ends here."""
    from slurm_factory.request import plan_request
    from slurm_factory.up_to_date import find_up_to_date

    outcome = find_up_to_date(plan, settings)
    if outcome is None and request.offline:
        # A package built with the settings' build caches is up to date too.
        outcome = find_up_to_date(
            plan_request(replace(request, offline=False), plan.machine), settings
        )
    if outcome and any(settings.work_dir.glob("*.lock")):
        from slurm_factory.instances.orphans import end_killed_builds

        end_killed_builds(settings, reporter)
    return outcome


@app.command()
def verify(
    *,
    package: options.Package,
    on: options.Distros = "",
    static: Annotated[
        bool,
        typer.Option(
            "--static",
            help="Only read its files; needs neither root nor LXD.",
            rich_help_panel=options.CHECKS,
        ),
    ] = False,
    suite: Annotated[
        bool,
        typer.Option(
            "--suite",
            help="Also run SchedMD's tests, with plain Slurm and with the package.",
            rich_help_panel=options.CHECKS,
        ),
    ] = False,
    upgrade_from: options.OlderPackage = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Use this machine, which nobody needs afterwards, as root.",
            rich_help_panel=options.WHERE,
        ),
    ] = False,
    keep_instance: Annotated[
        bool,
        typer.Option(
            "--keep-instance",
            help="Keep the instance, to look around in it.",
            rich_help_panel=options.WHERE,
        ),
    ] = False,
    sign: options.SignAgain = "",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Run clusters from a package on other distributions, and record what they did."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.package.signatures import trust_of
        from slurm_factory.verify import verify as verification
        from slurm_factory.verify.package import find_trusted

        trust = trust_of(settings)
        found = find_trusted(package, settings, trust)
        reporter.subject = found.stem
        request = verification.VerifyRequest(
            package=found,
            on=tuple(filter(None, (name.strip() for name in on.split(",")))),
            static=static,
            suite=suite,
            here=here,
            upgrade_from=tuple(
                find_trusted(older, settings, trust) for older in upgrade_from or ()
            ),
            keep_instance=keep_instance,
            sign_key=_signing_key(sign, settings),
        )
        verdict = verification.verify(request, settings, reporter)
        answers.print_verdict(verdict, as_json=as_json)
        if error := verification.failure(verdict):
            reporter.error(error)
            answers.summarize_failure(found.stem, error, reporter)
            raise typer.Exit(error.exit_code)


@app.command()
def deploy(
    *,
    package: options.Deployed = "",
    prefix: options.Prefix = None,
    role: options.Role = None,
    config: options.Config = None,
    nodes: options.Nodes = None,
    conf_server: options.ConfServer = None,
    slurm_uid: options.SlurmUid = None,
    start: options.Start = False,
    no_switch: options.NoSwitch = False,
    rollback: options.Rollback = False,
    switch: options.Switch = None,
    state_backup: options.StateBackup = None,
    show_versions: options.VersionsList = False,
    remove: options.Remove = None,
    keep: options.KeepVersions = None,
    plan_upgrade: options.PlanUpgrade = None,
    root: options.Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Unpack a package beside other versions, with systemd units, and switch to it or back."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (_, settings):
        from slurm_factory import deploy as deployment
        from slurm_factory.package.signatures import trust_of
        from slurm_factory.verify.package import find_trusted

        values = {
            "--prefix": prefix,
            "--role": ",".join(role) if role else None,
            "--config": config,
            "--nodes": nodes,
            "--conf-server": conf_server,
            "--slurm-uid": slurm_uid,
            "--state-backup": state_backup,
            "--switch": switch,
            "--remove": remove,
            "--keep": keep,
            "--root": root,
        }
        flags = {
            "--start": start,
            "--no-switch": no_switch,
            "--rollback": rollback,
            "--list": show_versions,
            "--dry-run": dry_run,
            "--json": as_json,
        }
        # Empty ones are mistakes, such as an unset variable: the script refuses them.
        words = [f"{option}={value}" for option, value in values.items() if value is not None]
        words += [flag for flag, given in flags.items() if given]
        words += ["--plan-upgrade", *plan_upgrade] if plan_upgrade else []
        if package:
            found = find_trusted(package, settings, trust_of(settings))
            words += deployment.words_for(found)
        deployment.become_script(words)


@app.command()
def prefetch(
    *,
    slurm_version: options.Version = "",
    source: options.Source = "",
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="The newest release of every series, in every type.",
            rich_help_panel=options.CONTENT,
        ),
    ] = False,
    gpu: options.Gpu = False,
    minimal: options.Minimal = False,
    additional_variants: options.Variants = "",
    deps: options.Deps = DEFAULT_DEPS.value,
    base: options.Base = DEFAULT_BASE,
    glibc: options.Glibc = "",
    arch: options.Arch = "",
    sha256: options.Sha256 = "",
    patch: options.Patch = None,
    no_backports: options.NoBackports = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch everything for a later build --offline, here or elsewhere."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory import prefetch as fetching
        from slurm_factory.request import BuildOptions, plan_request, read_request

        one = bool(slurm_version or source)
        if one == every or (every and (gpu or minimal or patch)):
            raise ConfigurationError(
                "prefetch needs one release, or --all for every series and type.",
                details="--slurm-version, --source, --patch, --gpu and --minimal cannot be"
                " combined with --all.",
                resolution="Write --slurm-version 25.05, for example, or --all.",
            )
        asked = BuildOptions(
            slurm_version=slurm_version,
            source=source,
            sha256=sha256,
            gpu=gpu,
            minimal=minimal,
            additional_variants=additional_variants,
            deps=deps,
            base=base,
            glibc=glibc,
            arch=arch,
            backports=not no_backports,
            patches=tuple(patch or ()),
        )
        request = read_request(asked, settings, reporter, for_offline=True)
        requests = fetching.all_requests(request) if every else (request,)
        plans = [plan_request(request) for request in requests]
        prefetched = fetching.prefetch(plans, settings, reporter)
        answers.print_prefetched(prefetched, plans, as_json=as_json)
        _tell_failures(prefetched.failures, reporter)


@app.command()
def clean(
    *,
    packages: options.NamedPackages = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Also base instances, images and the LXD project.",
            rich_help_panel=options.REMOVED,
        ),
    ] = False,
    builds: Annotated[
        bool,
        typer.Option(
            "--builds", help="Also finished builds and logs.", rich_help_panel=options.REMOVED
        ),
    ] = False,
    caches: Annotated[
        bool,
        typer.Option(
            "--caches", help="Also compiler and source caches.", rich_help_panel=options.REMOVED
        ),
    ] = False,
    keep: options.Newest = None,
    older_than: options.Age = None,
    remote: options.Remote = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove instances and files of ended builds."""
    with (
        session(as_json=as_json, verbose=verbose, quiet=quiet, there=Elsewhere(remote)) as (
            reporter,
            settings,
        ),
        lxd_of(settings),
    ):
        from slurm_factory import answers
        from slurm_factory import clean as cleaning

        age = cleaning.parse_age(older_than) if older_than else None
        request = cleaning.CleanRequest(
            full=full,
            builds=builds,
            caches=caches,
            older_than=age,
            packages=tuple(packages or ()),
            keep=keep,
        )
        require_readable(settings.cache_dir)
        now = datetime.now(UTC)
        plan = cleaning.plan_clean(request, settings, now)
        for note in plan.notes:
            reporter.note(note)
        if not as_json:
            answers.print_removals(plan.removals)
        if plan.removals and not dry_run:
            if not yes:
                _confirm(len(plan.removals))
            done = cleaning.remove_all(plan.removals, settings, reporter.warning, now)
            plan = replace(plan, removals=done)
        if as_json:
            answers.print_cleaned(plan, dry_run=dry_run)


@app.command()
def setup(
    *,
    destructive_mode: Annotated[
        bool,
        typer.Option(
            "--destructive-mode",
            help="Install the packages for builds on this machine instead of LXD.",
        ),
    ] = False,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback", help="Do as --destructive-mode does where no instance can start."
        ),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only show what is missing.")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Install and initialize LXD on this machine, if needed."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.host import setup as on_this_machine

        prepare = on_this_machine.setup_with_fallback if fallback else on_this_machine.setup
        if destructive_mode:
            prepare = on_this_machine.setup_destructive
        result = prepare(settings, reporter.note, check=check)
        answers.print_setup(result, check=check, as_json=as_json)
        for note in result.notes:
            reporter.note(note)
        if not result.ready:
            raise typer.Exit(3)


@app.command()
def doctor(
    *,
    remote: options.Remote = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check this machine and print the commands that fix problems."""
    there = Elsewhere(remote)
    with session(as_json=as_json, verbose=verbose, quiet=quiet, there=there) as (_, settings):
        from slurm_factory import answers
        from slurm_factory.host import doctor as examination
        from slurm_factory.host.checks import Status

        if settings.remote:
            from slurm_factory.instances.remote_checks import examine

            checks = examine(settings)
        else:
            checks = examination.doctor(settings)
        answers.print_checks(checks, as_json=as_json)
        if any(check.status == Status.FAILED for check in checks):
            raise typer.Exit(3)


@app.command("settings")
def show_settings(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Only these settings; default: all.",
            autocompletion=completion.settings,
        ),
    ] = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the value of each setting and what it comes from."""
    with reporting(as_json=as_json, verbose=verbose, quiet=quiet) as reporter:
        from slurm_factory import answers
        from slurm_factory.config import effective_settings, settings_file

        warn_of_unknown_variables(reporter)
        found = effective_settings(project_name=Globals.project_name, only=names or ())
        answers.print_settings(found, settings_file(), as_json=as_json)
        for problem in found.problems:
            reporter.error(problem)
        if found.problems:
            raise typer.Exit(ConfigurationError.exit_code)


@app.command("list")
def list_builds(
    *,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """List finished builds."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (_, settings):
        from slurm_factory import answers
        from slurm_factory.package.publish import find_artifacts
        from slurm_factory.package.signatures import standings, trust_of

        require_readable(settings.cache_dir)
        found = find_artifacts(settings.builds_dir)
        usable = [each.path for each in found if each.manifest]
        answers.print_builds(found, standings(usable, trust_of(settings)), as_json=as_json)


@app.command()
def show(
    *,
    packages: options.Packages = None,
    compare: options.Compare = False,
    libraries: options.Libraries = False,
    osv: options.Osv = "",
    advisory: options.Advisory = "",
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Look advisories up in copies of before.",
            rich_help_panel=options.ADVISORIES,
        ),
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what finished packages contain, and their known advisories."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers, findings
        from slurm_factory.package.publish import find_artifacts
        from slurm_factory.package.signatures import require_none_refused, standings, trust_of

        require_readable(settings.cache_dir)
        if compare:
            from slurm_factory.compare import Lookup
            from slurm_factory.compare import compare as compare_packages

            _require_two(packages or (), advisory)
            lookup = Lookup(libraries=libraries, osv=osv, offline=offline)
            found = compare_packages(packages or (), settings, reporter, lookup)
            answers.print_comparison(found, as_json=as_json)
            return
        advisory = findings.parse_advisory(advisory)
        reports = findings.report(
            findings.select(find_artifacts(settings.builds_dir), packages or ()),
            settings,
            reporter,
            # Others than those of Slurm can only be found among the libraries.
            look_up=libraries or bool(osv or (advisory and not findings.is_of_slurm(advisory))),
            osv=osv,
            offline=offline,
        )
        signed = standings([each.path for each in reports], trust_of(settings))
        now = datetime.now(UTC)
        answers.print_reports(reports, signed, now, advisory=advisory, as_json=as_json)
        if packages:
            require_none_refused(signed)


def _require_two(packages: Sequence[str], advisory: str) -> None:
    if len(packages) != 2 or advisory:  # noqa: PLR2004
        raise ConfigurationError(
            "--compare needs two packages, and nothing else to look for.",
            details=f"Here: {len(packages)}{', and --advisory' if advisory else ''}.",
            resolution="Write `slurm-factory show --compare A B`; `slurm-factory list` names them.",
        )


@app.command()
def versions(
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Ask upstream for releases that no catalog knows.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read catalogs of URLs in copies of before.")
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """List the releases that can be built."""
    with session(as_json=as_json, verbose=verbose, quiet=quiet) as (reporter, settings):
        from slurm_factory import answers
        from slurm_factory.plan.releases import catalog
        from slurm_factory.request import read_catalog

        new: tuple[Release, ...] = ()
        if update and offline:
            raise ConfigurationError(
                "--update asks upstream, and --offline forbids it.",
                resolution="Omit one of them.",
            )
        if update:
            from slurm_factory.cache_dir import make_cache_dir
            from slurm_factory.fetch import catalogs

            make_cache_dir(settings)
            new = catalogs.update(settings, reporter)
        known = read_catalog(settings, reporter, offline=offline) or catalog()
        answers.print_versions(known, datetime.now(UTC).date(), new=new, as_json=as_json)


app.command()(farm_commands.matrix)
app.command()(farm_commands.reproduce)
app.command()(farm_commands.publish)
app.command()(farm_commands.fetch)


def run() -> None:
    """Entry point of the program."""
    from slurm_factory.output.stream import fill_closed_streams
    from slurm_factory.util.search_path import search_path

    fill_closed_streams()
    # craft-providers looks for lxc there.
    os.environ["PATH"] = search_path()
    # Other users must not be able to change our files, even if the login shell allows it. Instances
    # of root read them as another user.
    os.umask(0o022 if os.getuid() == 0 else os.umask(0o022) | 0o022)
    # Otherwise messages of libraries would go to stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    handle_endings(_interrupt)
    completion.join_words(os.environ)
    try:
        app()
    except KeyboardInterrupt:  # Before a command has begun.
        sys.exit(InterruptedBuildError.exit_code)
    except (OSError, SystemExit) as error:
        # Typer ends with 1 for a reader that has gone.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and _is_of_typer(cause):
            sys.exit(_code_of_unwritten(cause))
        raise


def _is_of_typer(error: OSError) -> bool:
    """Whether typer itself could not write: help, completions, or how a command is used."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals["__name__"].startswith("typer.")


def _code_of_unwritten(error: OSError) -> int:
    """The exit code for what typer could not write."""
    from slurm_factory.output.reporter import make_reporter
    from slurm_factory.output.stdout import writing
    from slurm_factory.output.stream import discard

    usage: int | None = getattr(error.__context__, "exit_code", None)
    if usage is not None:  # Its message is what could not be written.
        discard(2)
        return usage
    try:
        with make_reporter() as reporter, exit_codes(reporter, as_json=False), writing():
            raise error
    except typer.Exit as end:
        return end.exit_code


def _interrupt(*_: object) -> NoReturn:
    """Ignore further ones: another Ctrl-C would stop the cleanup and leave an instance behind."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tell_failures(failures: Sequence[Failure], reporter: Reporter) -> None:
    """Print the failures and exit with the code of the first one."""
    from slurm_factory import answers

    for failure in failures:
        reporter.warning(f"{failure.what}: {failure.error.brief} {failure.error.details}".strip())
    if failures:
        reporter.error(failures[0].error)
        answers.summarize_failure(failures[0].what, failures[0].error, reporter)
        raise typer.Exit(failures[0].error.exit_code)


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "clean asks before it removes anything, but there is no terminal to ask on.",
            resolution="Add --yes, or --dry-run to look only.",
        )
    if not typer.confirm(f"Remove {count} of these?", err=True):
        raise typer.Exit
