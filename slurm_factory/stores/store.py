"""What every store can do, and the errors of all of them in the same words."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slurm_factory.exceptions import (
    ConfigurationError,
    DownloadError,
    OutputError,
    SlurmFactoryError,
)
from slurm_factory.fetch.http import (
    DeniedError,
    LoginFileError,
    MissingError,
    TransferError,
    UnreachableError,
)

if TYPE_CHECKING:
    from slurm_factory.fetch.http import Body
    from slurm_factory.package.manifest import File
    from slurm_factory.stores.index import StoredPackage


class FullError(TransferError):
    """The store cannot be written: a full disk, or permissions."""


@dataclass(frozen=True)
class Seen:
    """The index as it was read.

    Attributes:
        content: The document; None: there is none.
        version: What the store knows this state by.
        written: Whether the store has this very document; false where it has found out more than
            its document says.
    """

    content: bytes | None
    version: str = ""
    written: bool = True


class Store(Protocol):
    """A place with packages to read. Its methods raise TransferError.

    Attributes:
        shown: Its URL, without credentials.
        login: How to log in, a sentence.
    """

    shown: str
    login: str

    def index(self) -> Seen:
        """The index for readers."""

    def get(self, package: StoredPackage, file: File, offset: int) -> AbstractContextManager[Body]:
        """A file of a package from an offset."""


class WritableStore(Store, Protocol):
    """A place to publish packages to."""

    def index_to_replace(self) -> Seen:
        """The index for a publisher, who is going to replace it."""

    def replace(self, content: bytes, seen: Seen, leaving: Collection[str] = ()) -> bool:
        """Replace the index if it is still as it was seen.

        Args:
            content: The new document.
            seen: What it replaces.
            leaving: Names of packages that are removed afterwards.

        Returns:
            False: another publisher was first.
        """

    def put(self, package: StoredPackage, directory: Path) -> None:
        """Store the files of a package, which lie in a directory (host). Nobody sees them before
        the index names them."""

    def settle(self, package: StoredPackage, directory: Path) -> None:
        """Once the index names a package: complete its files again, which another publisher may
        have removed before, and remove what killed ones have left of its name."""

    def discard(self, package: StoredPackage) -> None:
        """Remove the files of a package unless the index names it again."""


STALE = 3600.0
"""Age in seconds after which nobody is still writing what the index does not name."""


def failure(store: Store, what: str, error: TransferError) -> SlurmFactoryError:
    """The error for people.

    Args:
        store: Where it happened.
        what: What failed, the beginning of a sentence that goes on with the store.
        error: Why.
    """
    brief, details = f"{what} {store.shown}.", f"{str(error)[:1].upper()}{str(error)[1:]}."
    if isinstance(error, FullError):
        way = "Free space there, or correct its permissions, then run the command again."
        return OutputError(brief, details=details, resolution=way)
    if isinstance(error, LoginFileError):
        return ConfigurationError(
            "Docker's configuration cannot be used.",
            details=details,
            resolution="Correct it, or log in again.",
        )
    if isinstance(error, DeniedError):
        way = store.login
    elif isinstance(error, MissingError):
        way = "Check the URL; `slurm-factory fetch --list URL` shows what a store has."
    elif isinstance(error, UnreachableError):
        way = "Check the URL and the network, then run the command again."
    else:
        way = "Run the command again; if it fails again, look at the server."
    return DownloadError(brief, details=details, resolution=way)
