"""Which entries of build caches count: those with a signature by the user's keys."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.layout import SIGNED
from slurm_factory.exceptions import VerificationError
from slurm_factory.package.gpg import open_keyring

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from slurm_factory.package.gpg import Keyring


class UntrustedError(ValueError):
    """A text has no signature that counts; `str()` says why, as the end of a sentence."""


class Trust:
    """Decides which entries count. A context manager; it keeps nothing.

    Args:
        keys: File (host) with public keys, armored or not; None: nobody is trusted.
        unsigned: Whether entries without a signature count as well.
    """

    def __init__(self, keys: Path | None, *, unsigned: bool) -> None:
        self._keys, self._unsigned = keys, unsigned
        self._keyring: Keyring | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._keys is not None and not self._unsigned:
            self._keyring = self._open.enter_context(open_keyring(self._keys))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def payload(self, text: bytes) -> bytes:
        """What a text says without its signature, if that counts.

        Raises:
            UntrustedError: It does not count.
        """
        if self._unsigned:
            return unsigned_payload(text)
        if not text.lstrip().startswith(SIGNED):
            raise UntrustedError("not signed")
        try:
            if self._keyring is not None:
                return self._keyring.text(text)
        except VerificationError as error:
            raise UntrustedError("not signed by a trusted key") from error
        raise UntrustedError("not signed by a trusted key")


def unsigned_payload(text: bytes) -> bytes:
    """What a text says without its signature, which is not checked (RFC 9580, section 7)."""
    if not text.lstrip().startswith(SIGNED):
        return text
    body = text.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    lines = body.partition(b"\n-----BEGIN PGP SIGNATURE-----")[0].split(b"\n")
    return b"\n".join(line.removeprefix(b"- ") for line in lines)
