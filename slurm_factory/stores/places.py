"""From the URL that somebody writes to a store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.base_setup import without_credentials
from slurm_factory.util.hints import quoted

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.stores.store import Store, WritableStore

FORMS = {
    "file": re.compile(r"file:///.+"),
    "http": re.compile(r"http://[^/\s]+(/\S*)?"),
    "https": re.compile(r"https://[^/\s]+(/\S*)?"),
    "s3": re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[\w./+~-]*)?", re.ASCII),
    "oci": re.compile(r"oci://[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+/?", re.ASCII),
}
"""The URLs of stores by scheme. Neither a bucket nor a registry takes credentials from there."""


def open_store(url: str, settings: Settings) -> Store:
    """The store at a URL, to fetch from; empty: that of the settings.

    Raises:
        ConfigurationError: It is no such URL, or there is none.
    """
    scheme, url = _parsed(url, settings)
    if scheme in {"http", "https"}:
        from slurm_factory.stores.http import HttpStore  # noqa: PLC0415  # slow to import

        return HttpStore(url, without_credentials(url), settings.download_timeout)
    return _open(scheme, url, settings.download_timeout)


def open_to_publish(url: str, settings: Settings) -> WritableStore:
    """The store at a URL, to publish to; empty: that of the settings.

    Raises:
        ConfigurationError: It is no such URL, or nobody can publish to it.
    """
    scheme, url = _parsed(url, settings)
    if scheme in {"http", "https"}:
        raise ConfigurationError(
            f"Nothing can be published to {without_credentials(url)}.",
            details="A web server only gives packages away.",
            resolution="Publish to the directory that it serves: file:///DIRECTORY",
        )
    return _open(scheme, url, settings.download_timeout)


def _parsed(url: str, settings: Settings) -> tuple[str, str]:
    """The scheme, and the whole URL."""
    url = url or settings.store or ""
    scheme = url.partition(":")[0]
    if not url:
        raise ConfigurationError(
            "No store is named.",
            details="The setting store has no value either.",
            resolution="Give its URL, or set SLURM_FACTORY_STORE.",
        )
    if scheme not in FORMS or FORMS[scheme].fullmatch(url) is None:
        raise ConfigurationError(
            f"{quoted(url)} is no URL of a store.",
            details="It is one such as file:///DIRECTORY, https://HOST/PATH, s3://BUCKET/PATH or"
            " oci://HOST/REPOSITORY, without credentials for the last two.",
            resolution="Correct it.",
        )
    return scheme, url


def _open(scheme: str, url: str, timeout: float) -> WritableStore:
    shown = without_credentials(url)
    if scheme == "file":
        from slurm_factory.stores.files import FileStore  # noqa: PLC0415  # one of four

        return FileStore(Path(unquote(urlsplit(url).path)), shown)
    if scheme == "s3":
        from slurm_factory.stores.s3 import S3Store  # noqa: PLC0415  # slow to import

        return S3Store(url, shown, timeout)
    from slurm_factory.stores.oci import OciStore  # noqa: PLC0415  # slow to import

    return OciStore(url, shown, timeout)
