"""Errors of craft-providers, and of pylxd below it, as errors that a user can read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pylxd.exceptions
import requests
from craft_providers import ProviderError
from craft_providers.errors import BaseCompatibilityError

from slurm_factory.exceptions import LXDError
from slurm_factory.instances import TRANSIENT

IMAGE_GONE = "Image not found"
"""craft-providers has deleted a base that was too old, and its image is not there any more."""
CLIENT_ERRORS = (
    requests.RequestException,
    pylxd.exceptions.ClientConnectionFailed,
    pylxd.exceptions.LXDAPIException,
    pylxd.exceptions.LXDAPIExtensionNotAvailable,
)
"""What pylxd raises, through which craft-providers talks to LXD beside the lxc command."""


class TransientError(ProviderError):
    """lxc could not start a command, which it can the next time."""


@contextmanager
def provider_errors() -> Iterator[None]:
    """Turn what craft-providers and what it runs raise in the block into errors of ours.

    Raises:
        BaseCompatibilityError: As it was; what to do about it depends on whose base it is.
        TransientError: Another attempt may succeed.
        LXDError: No attempt will.
    """
    try:
        yield
    except BaseCompatibilityError:
        raise
    except ProviderError as error:
        if TRANSIENT in str(error) or IMAGE_GONE in str(error):
            raise TransientError(error.brief, details=error.details) from error
        raise unusable(error) from error
    except subprocess.SubprocessError as error:
        raise TransientError("A command in the instance failed.", details=str(error)) from error
    except CLIENT_ERRORS as error:
        raise unreachable(error) from error


def unusable(error: ProviderError) -> LXDError:
    """The error for an instance that craft-providers could not launch."""
    return LXDError(
        f"No instance could be launched: {error.brief.strip()}",
        details=_last_words(error.details or ""),
        resolution=error.resolution or "Run `slurm-factory doctor`.",
    )


def unreachable(error: Exception) -> LXDError:
    """The error for a daemon that does not answer, or not in time."""
    return LXDError(
        "LXD could not be talked to.",
        details=" ".join(str(error).split()) or type(error).__name__,
        resolution="Run `slurm-factory doctor`.",
    )


def _last_words(details: str) -> str:
    """What lxc wrote last, out of the command lines that craft-providers puts around it."""
    written = re.findall(r"standard error output: b?['\"](.*)['\"]", details)
    lines = (written[-1].replace("\\n", "\n") if written else details).strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else ""
