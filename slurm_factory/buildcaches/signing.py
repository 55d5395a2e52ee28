"""Clear-signed entries of build caches: signing, and checking by the user's keys, with GnuPG."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.layout import SIGNED
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.util.files import file_errors
from slurm_factory.util.process import NOT_FOUND, error_line, run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

STATUS = re.compile(r"^\[GNUPG:\] ([A-Z_]+)", re.MULTILINE)
GOOD = frozenset({"GOODSIG", "VALIDSIG"})
BAD = frozenset({"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "FAILURE"})
"""GnuPG's doc/DETAILS, "General status codes"."""
OFFLINE = ("--batch", "--no-tty", "--no-autostart", "--no-auto-key-retrieve")


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
        self._home = tempfile.TemporaryDirectory(prefix="slurm-factory-gpg-")

    def __enter__(self) -> Self:
        if self._keys is None or self._unsigned:
            return self
        try:
            self._import(self._keys)
        except BaseException:
            self._home.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._home.cleanup()

    def payload(self, text: bytes) -> bytes:
        """What a text says without its signature, if that counts.

        Raises:
            UntrustedError: It does not count.
        """
        if self._unsigned:
            return unsigned_payload(text)
        if not text.lstrip().startswith(SIGNED):
            raise UntrustedError("not signed")
        return self._verified(text)

    def _verified(self, text: bytes) -> bytes:
        with tempfile.TemporaryDirectory(dir=self._home.name) as folder:
            signed, status = Path(folder, "signed"), Path(folder, "status")
            signed.write_bytes(text)
            done = run(
                (
                    *("gpg", *OFFLINE, "--homedir", self._home.name, "--trust-model", "always"),
                    *("--status-file", str(status), "--decrypt", str(signed)),
                )
            )
            found = set(STATUS.findall(status.read_text("utf-8", "replace") if done.ok else ""))
        if not done.ok or not found >= GOOD or found & BAD:
            raise UntrustedError("not signed by a trusted key")
        return done.output.encode()

    def _import(self, keys: Path) -> None:
        home = self._home.name
        done = run(("gpg", *OFFLINE, "--quiet", "--homedir", home, "--import", str(keys)))
        if done.status == NOT_FOUND:
            raise ConfigurationError(
                "Signatures of build caches cannot be checked: there is no gpg.",
                details="SLURM_FACTORY_SPACK_BUILDCACHE_KEYS needs GnuPG on this machine.",
                resolution="Install it: sudo apt-get install gpg",
            )
        listed = run(("gpg", *OFFLINE, "--homedir", home, "--with-colons", "--list-keys"))
        if not done.ok or "pub:" not in listed.output:
            raise ConfigurationError(
                f"The keys in {keys} cannot be trusted.",
                details=error_line(done.errors.splitlines(), "It has no public key."),
                resolution="Set SLURM_FACTORY_SPACK_BUILDCACHE_KEYS to a file written by `gpg"
                " --export` or `gpg --armor --export`.",
            )


def unsigned_payload(text: bytes) -> bytes:
    """What a text says without its signature, which is not checked (RFC 9580, section 7)."""
    if not text.lstrip().startswith(SIGNED):
        return text
    body = text.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    lines = body.partition(b"\n-----BEGIN PGP SIGNATURE-----")[0].split(b"\n")
    return b"\n".join(line.removeprefix(b"- ") for line in lines)


def clear_sign(text: bytes, key: str) -> bytes:
    """`text` with a signature, as Spack makes it.

    Args:
        text: What to sign.
        key: Name of a secret key in the user's keyring, as gpg takes it.

    Raises:
        ConfigurationError: gpg cannot sign with it.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-factory-gpg-") as folder:
        plain, signed = Path(folder, "entry"), Path(folder, "entry.asc")
        with file_errors(plain):
            plain.write_bytes(text)
        done = run(
            (
                *("gpg", "--batch", "--no-tty", f"--local-user={key}", "--clearsign"),
                *("--output", str(signed), str(plain)),
            )
        )
        if done.ok:
            return signed.read_bytes()
    raise ConfigurationError(
        "The build cache cannot be signed.",
        details=error_line(done.errors.splitlines(), "gpg failed."),
        resolution="Check SLURM_FACTORY_SIGN_KEY: gpg --list-secret-keys",
    )
