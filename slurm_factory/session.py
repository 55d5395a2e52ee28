"""What every command has around it: a reporter, the settings, and exit codes for errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from slurm_factory.constants import APPLICATION
from slurm_factory.exceptions import InterruptedBuildError, OutputError, SlurmFactoryError
from slurm_factory.util.signals import is_interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter


@dataclass(frozen=True)
class Elsewhere:
    """The options about another LXD: a remote of lxc, and a member or group of a cluster."""

    remote: str | None = None
    target: str | None = None


class Globals:
    """Options before the command."""

    project_name: str | None = None
    verbose = False
    quiet = False


@contextmanager
def session(
    *, as_json: bool, verbose: bool, quiet: bool, there: Elsewhere | None = None
) -> Iterator[tuple[Reporter, Settings]]:
    """A reporter and the settings; errors become exit codes.

    Args:
        as_json: Whether errors are printed as a document.
        verbose: Whether to show everything.
        quiet: Whether to show errors only.
        there: What the options say about another LXD; None: the command uses this machine's.
    """
    from slurm_factory.config import load_settings

    with reporting(as_json=as_json, verbose=verbose, quiet=quiet) as reporter:
        given = there or Elsewhere()
        settings = load_settings(
            project_name=Globals.project_name, remote=given.remote, target=given.target
        )
        warn_of_unknown_variables(reporter)
        if settings.events_file:
            reporter.copy_events(settings.events_file)
        yield reporter, settings if there else settings.on_this_machine


@contextmanager
def lxd_of(settings: Settings) -> Iterator[None]:
    """Inside, LXD is that of the remote in the settings, if there is one."""
    if not settings.remote:
        yield
        return
    from slurm_factory.instances.remote import open_remote

    with open_remote(settings.remote, settings.remotes_dir):
        yield


@contextmanager
def reporting(*, as_json: bool, verbose: bool, quiet: bool) -> Iterator[Reporter]:
    """A reporter; errors become exit codes."""
    from slurm_factory.output.reporter import make_reporter

    verbose, quiet = verbose or Globals.verbose, quiet or Globals.quiet
    with (
        make_reporter(verbose=verbose, quiet=quiet) as reporter,
        exit_codes(reporter, as_json=as_json),
    ):
        yield reporter


@contextmanager
def exit_codes(reporter: Reporter, *, as_json: bool) -> Iterator[None]:
    """The one place where errors become exit codes."""
    from slurm_factory import answers
    from slurm_factory.output.stdout import READER_GONE, ReaderGoneError, print_error

    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        error: SlurmFactoryError = InterruptedBuildError("Interrupted.")
    except SlurmFactoryError as caught:
        error = caught
    except ReaderGoneError as gone:
        raise typer.Exit(READER_GONE) from gone
    except RuntimeError as caught:
        if not is_interrupt(caught):
            raise
        error = InterruptedBuildError("Interrupted.")
    else:
        return
    reporter.error(error)
    answers.summarize_failure(reporter.subject or APPLICATION, error, reporter)
    if as_json:
        # The error counts, even if nobody reads the document.
        with suppress(ReaderGoneError, OutputError):
            print_error(error)
    raise typer.Exit(error.exit_code)


def warn_of_unknown_variables(reporter: Reporter) -> None:
    """Warn of variables that look like settings and are none."""
    from slurm_factory.config import unknown_variables

    for name, near in unknown_variables(os.environ).items():
        hint = f"did you mean {near}?" if near else "docs/options.md lists all settings."
        reporter.warning(f"Ignoring {name}, which is not a setting: {hint}")


def require_readable(cache_dir: Path) -> None:
    """A missing directory is fine, an unreadable one is an error."""
    from slurm_factory.util.files import file_errors

    with file_errors(cache_dir, "read"):
        if cache_dir.exists():
            next(cache_dir.iterdir(), None)
