"""Signatures by gpg(1), detached or around a text. What it prints is read from --status-fd only.

doc/DETAILS in GnuPG's source describes the lines of --status-fd.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from slurm_factory.exceptions import (
    ConfigurationError,
    LXDError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.output.text import visible
from slurm_factory.util.documents import read_limited
from slurm_factory.util.files import file_errors
from slurm_factory.util.hints import quoted
from slurm_factory.util.process import NOT_FOUND, TIMED_OUT, Outcome, run

GPG = ("gpg", "--batch", "--no-tty", "--status-fd", "1")
SIGNING_SECONDS = 180.0
"""A person may have to type a passphrase."""
STATUS = re.compile(r"^\[GNUPG:\] ([A-Z_]+)(?: (.*))?$", re.MULTILINE)
SOURCE_MASK = 0xFFFF
"""Of an error of libgpg-error; above it is the part of GnuPG that reports it."""
NO_SECRET_KEY, UNUSABLE_KEY = (9, 17), (53, 54, 94, 125, 153)
LOCKED = (11, 85, 99, 176, 177)
"""Bad passphrase, no pinentry, canceled, and no passphrase given (libgpg-error, err-codes.h)."""
STRONG = {"8", "9", "10", "11"}
"""SHA-2 (RFC 4880, section 9.4)."""
DOCUMENTS = {"00", "01"}
"""Classes of signatures of files (RFC 4880, section 5.2.1)."""
LARGEST_SIGNATURE = 64 << 10
LARGEST_KEYS = 4 << 20
"""In bytes."""
MOST_KEY_FILES = 200
KEYS_RESOLUTION = "Export public keys with gpg --export --armor KEY, and name that file."


@dataclass(frozen=True)
class Signer:
    """A good signature.

    Attributes:
        name: User id of the key, as its owner has written it.
        fingerprint: Fingerprint of the primary key.
        subkey: Fingerprint of the key that has signed.
        at: When.
    """

    name: str
    fingerprint: str
    subkey: str
    at: datetime


def require_key(key: str) -> str:
    """Try to sign with a key of the user's keyring, before anybody waits for a build.

    Args:
        key: Fingerprint, or what else names the key.

    Returns:
        Fingerprint of the key that signs.

    Raises:
        ConfigurationError: There is no such secret key, or it cannot be used.
        LXDError: gpg is missing, or its agent has no passphrase.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-factory-sign-") as name:
        trial = Path(name) / "trial"
        trial.write_text("A trial of slurm-factory.\n")
        return sign_file(trial, key, Path(f"{trial}.asc"))


def sign_file(path: Path, key: str, destination: Path) -> str:
    """Write an armored detached signature.

    Args:
        path: What to sign (host).
        key: Names the key in the user's keyring; its passphrase comes from the user's agent.
        destination: File to write (host), which must not exist.

    Returns:
        Fingerprint of the key that has signed.

    Raises:
        ConfigurationError: There is no such secret key, or it cannot be used.
        LXDError: gpg is missing, or its agent has no passphrase.
    """
    return _sign(path, key, destination, "--detach-sign")


def sign_text(text: bytes, key: str) -> bytes:
    """A text with a signature around it; parameter and errors as those of `sign_file`."""
    with tempfile.TemporaryDirectory(prefix="slurm-factory-sign-") as name:
        plain, signed = Path(name) / "text", Path(name) / "signed"
        plain.write_bytes(text)
        _sign(plain, key, signed, "--clear-sign")
        return signed.read_bytes()


def _sign(path: Path, key: str, destination: Path, way: str) -> str:
    words = ("--armor", way, "--local-user", key, "--output", str(destination))
    mode = () if _somebody_is_there() else ("--pinentry-mode", "error")
    done = run([*GPG, *mode, *words, "--", str(path)], seconds=SIGNING_SECONDS)
    created = [rest.split() for word, rest in _status(done) if word == "SIG_CREATED"]
    if done.ok and created and destination.is_file():
        return created[-1][-1]
    raise _not_signed(done, key)


def _somebody_is_there() -> bool:
    """Whether somebody can be asked for a passphrase; otherwise a pinentry would wait for ever."""
    return sys.stdin.isatty() or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _gpg_is_missing() -> LXDError:
    return LXDError(
        "gpg is missing on this machine.",
        details="It makes and checks signatures of packages.",
        resolution="Install it: sudo apt install gnupg",
    )


def _status(done: Outcome) -> list[tuple[str, str]]:
    return [(match[1], match[2] or "") for match in STATUS.finditer(done.output)]


def _not_signed(done: Outcome, key: str) -> SlurmFactoryError:
    if done.status == NOT_FOUND:
        return _gpg_is_missing()
    failures = [rest.split() for word, rest in _status(done) if word == "FAILURE"]
    number = failures[-1][-1] if failures and failures[-1] else ""
    code = int(number) & SOURCE_MASK if number.isdecimal() else 0
    what = f"Nothing can be signed with the key {quoted(key)}."
    if code in NO_SECRET_KEY:
        return ConfigurationError(
            what,
            details="The keyring of this user has no secret key of this name.",
            resolution="gpg --list-secret-keys shows those it has; name one by its fingerprint.",
        )
    if code in UNUSABLE_KEY:
        return ConfigurationError(
            what,
            details="It has expired, is revoked, or is not made for signatures.",
            resolution="gpg --list-secret-keys shows until when it holds; name another, or extend"
            " it.",
        )
    if code in LOCKED or done.status == TIMED_OUT:
        return LXDError(
            what,
            details="The agent (gpg-agent) has no passphrase for it, and could not ask for one.",
            resolution="Unlock it first: gpg --sign --output /dev/null --local-user KEY /dev/null,"
            " or gpg-preset-passphrase.",
        )
    return ConfigurationError(
        what,
        details=f"gpg ended with {done.status}, error {code}.",
        resolution="Try it by hand: gpg --detach-sign --local-user KEY FILE",
    )


class Keyring:
    """Public keys that signatures are checked with.

    Args:
        words: Arguments of gpg that select them.
        source: What they come from, for messages.
    """

    def __init__(self, words: Sequence[str], source: str) -> None:
        self._words = words
        self._source = source

    def check(self, content: bytes, signature: bytes, name: str) -> Signer:
        """Who has signed some content.

        Args:
            content: What is signed.
            signature: The detached signature.
            name: File name of the content, for messages.

        Raises:
            LXDError: gpg is missing.
            VerificationError: No key of these has signed it, or the key counts no longer.
        """
        with tempfile.TemporaryDirectory(prefix="slurm-factory-check-") as directory:
            signed, seal = Path(directory) / "signed", Path(directory) / "signature"
            signed.write_bytes(content)
            seal.write_bytes(signature)
            done = run([*GPG, *self._words, "--verify", str(seal), str(signed)])
        if done.status == NOT_FOUND:
            raise _gpg_is_missing()
        groups = _signatures(done)
        good = [signer for group in groups if (signer := _good(group))]
        if good:
            return good[0]
        raise self._refusal(groups, name)

    def text(self, signed: bytes) -> bytes:
        """What a text says without the signatures around it.

        Raises:
            LXDError: gpg is missing.
            VerificationError: One of the signatures is of no key of these, or counts no longer.
        """
        with tempfile.TemporaryDirectory(prefix="slurm-factory-check-") as directory:
            seal, plain = Path(directory) / "signed", Path(directory) / "text"
            seal.write_bytes(signed)
            done = run([*GPG, *self._words, "--output", str(plain), "--decrypt", str(seal)])
            if done.status == NOT_FOUND:
                raise _gpg_is_missing()
            groups = _signatures(done)[1:]
            if done.ok and groups and all(_good(group) for group in groups):
                return plain.read_bytes()
        raise self._refusal(_signatures(done), "The text")

    def _refusal(self, groups: Sequence[Sequence[tuple[str, str]]], name: str) -> VerificationError:
        found = {word: rest for group in reversed(groups) for word, rest in group}
        who = ""
        for word in ("BADSIG", "REVKEYSIG", "EXPKEYSIG", "EXPSIG", "GOODSIG"):
            who = who or (_name(found[word]) if word in found else "")
        at = "Ask who made the package, and take a newer one."
        if "BADSIG" in found:
            return VerificationError(
                f"{name} is not what was signed.",
                details=f"The signature of {who} does not fit it: one of them was changed, or is of"
                " another build.",
                resolution="Copy all files of the package again; if it stays so, trust none.",
            )
        if "REVKEYSIG" in found:
            details = f"It is that of {who}. Its owner, or somebody who has it, no longer uses it."
            return VerificationError(
                f"{name} is signed with a key that is revoked.", details=details, resolution=at
            )
        if "EXPKEYSIG" in found:
            return VerificationError(
                f"{name} is signed with a key that has expired.",
                details=f"It is that of {who}.",
                resolution="Get the key again, if its owner has extended it, and put it into"
                f" {self._source}.",
            )
        if "EXPSIG" in found:
            details = f"{who} has limited it."
            return VerificationError(
                f"The signature of {name} has expired.", details=details, resolution=at
            )
        if "ERRSIG" in found and "NO_PUBKEY" in found:
            fields = found["ERRSIG"].split()
            fingerprint = fields[6] if len(fields) > 6 and fields[6] != "-" else fields[0]  # noqa: PLR2004  # doc/DETAILS
            return VerificationError(
                f"{name} is signed with a key that is not trusted.",
                details=f"The key is {visible(fingerprint)}; {self._source} does not have it.",
                resolution="If you trust its owner, put the public key there.",
            )
        return VerificationError(
            f"The signature of {name} cannot be used.",
            details=f"It is of a weak or an unknown kind{f', by {who}' if who else ''}."
            if "GOODSIG" in found or "ERRSIG" in found
            else "It is no signature of OpenPGP.",
            resolution="Copy all files of the package again.",
        )


def users_keyring() -> Keyring:
    """The keyring of this user."""
    return Keyring(("--trust-model", "always"), "the keyring")


@contextmanager
def open_keyring(trusted: Path) -> Iterator[Keyring]:
    """A keyring with trusted keys only, whatever the user's own holds.

    Args:
        trusted: File with public keys (host), or a directory of such files.

    Raises:
        ConfigurationError: It has no public key.
        LXDError: gpg is missing.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-factory-keys-") as home:
        copies = _copy_keys(trusted, Path(home))
        # An empty file: keyboxd would be a daemon that outlives this program.
        (Path(home) / "common.conf").touch()
        words = ("--homedir", home, "--no-options", "--no-autostart", "--trust-model", "always")
        done = run([*GPG, *words, "--import", *map(str, copies)])
        if done.status == NOT_FOUND:
            raise _gpg_is_missing()
        if not any(word == "IMPORT_OK" for word, _ in _status(done)):
            raise _no_keys(trusted, "gpg finds no public key in it.")
        yield Keyring(words, str(trusted))


def _copy_keys(trusted: Path, home: Path) -> list[Path]:
    try:
        files = (
            sorted(p for p in trusted.iterdir() if p.is_file()) if trusted.is_dir() else [trusted]
        )
        if len(files) > MOST_KEY_FILES:
            raise _no_keys(trusted, f"It has more than {MOST_KEY_FILES} files.")
        copies = []
        for number, file in enumerate(files):
            copies.append(home / f"trusted-{number}")
            copies[-1].write_bytes(read_limited(Path(os.path.realpath(file)), LARGEST_KEYS))
    except OSError as error:
        raise _no_keys(trusted, f"{error.strerror or error}.") from error
    if not copies:
        raise _no_keys(trusted, "It is an empty directory.")
    return copies


def _no_keys(trusted: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The trusted keys {trusted} cannot be used.", details=why, resolution=KEYS_RESOLUTION
    )


def read_signature(path: Path) -> bytes:
    """A detached signature (host).

    Raises:
        OutputError: It cannot be read, is a link, or is too large.
    """
    with file_errors(path, "read"):
        return read_limited(path, LARGEST_SIGNATURE)


def _signatures(done: Outcome) -> list[list[tuple[str, str]]]:
    """The lines about each signature of a file that may have several."""
    groups: list[list[tuple[str, str]]] = [[]]
    for word, rest in _status(done):
        if word == "NEWSIG":
            groups.append([])
        groups[-1].append((word, rest))
    return groups


def _good(group: Sequence[tuple[str, str]]) -> Signer | None:
    """The signer, if the signature is good and its key counts. gpg ends with 0 for some others."""
    found = dict(group)
    if "GOODSIG" not in found or found.keys() & {"BADSIG", "ERRSIG", "REVKEYSIG", "EXPKEYSIG"}:
        return None
    match found.get("VALIDSIG", "").split():
        case [subkey, _, time, _, _, _, _, digest, kind, primary] if (
            digest in STRONG and kind in DOCUMENTS and time.isdecimal()
        ):
            at = datetime.fromtimestamp(int(time), UTC)
            return Signer(_name(found["GOODSIG"]), primary, subkey, at)
    return None


def _name(rest: str) -> str:
    """The user id in a line such as GOODSIG, whose special characters are escaped."""
    return visible(unquote(rest.partition(" ")[2], errors="replace"))
