"""Real keys of GnuPG for tests, in a home of their own, whose agent ends with it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PASSPHRASE = "open sesame"  # of a key that nobody else has
LONG_AGO = "1577836800"
"""2020-01-01, in seconds since the epoch."""


@dataclass(frozen=True)
class GpgHome:
    """A home of GnuPG (host) with secret keys."""

    path: Path

    def gpg(self, *words: str, text: str = "") -> str:
        command = ["gpg", "--batch", "--no-tty", "--quiet", "--homedir", str(self.path), *words]
        done = subprocess.run(
            command, input=text, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_key(self, name: str, *, passphrase: str = "", expires: str = "never") -> str:
        """Make a key that signs, and return its fingerprint.

        Args:
            name: Its user id.
            passphrase: Its passphrase.
            expires: `never`, or seconds after `LONG_AGO`.
        """
        then = () if expires == "never" else ("--faked-system-time", LONG_AGO)
        words = ("--pinentry-mode", "loopback", "--passphrase", passphrase)
        self.gpg(*then, *words, "--quick-gen-key", name, "ed25519", "sign", expires)
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        lines = self.gpg("--with-colons", "--list-keys", name).splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def export(self, *names: str) -> str:
        return self.gpg("--armor", "--export", *names)

    def sign(self, path: Path, name: str, *words: str) -> Path:
        """Sign a file, as anybody could, and return the signature."""
        signature = Path(f"{path}.asc")
        signature.unlink(missing_ok=True)
        output = ("--armor", "--detach-sign", "--output", str(signature))
        self.gpg(*words, "--local-user", name, *output, str(path))
        return signature

    def revoke(self, name: str) -> None:
        certificate = self.path / "openpgp-revocs.d" / f"{self.fingerprint(name)}.rev"
        # GnuPG puts a colon before it, against accidents.
        self.gpg("--import", text=certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))

    def lock(self) -> None:
        """Let the agent forget every passphrase."""
        self._gpgconf("--reload", "gpg-agent")

    def close(self) -> None:
        self._gpgconf("--kill", "all")

    def _gpgconf(self, *words: str) -> None:
        command = ["gpgconf", "--homedir", str(self.path), *words]
        subprocess.run(command, check=False, capture_output=True, timeout=60)


@contextmanager
def gpg_home() -> Iterator[GpgHome]:
    """A home without keys. Its path is short: it may hold the agent's socket."""
    path = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))  # a new directory
    home = GpgHome(path)
    try:
        yield home
    finally:
        home.close()
        shutil.rmtree(path, ignore_errors=True)


def agents_of(home: GpgHome) -> list[int]:
    """Processes that serve a home."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if os.fsencode(home.path) in command and b"agent" in command:
            found.append(int(process.name))
    return found
