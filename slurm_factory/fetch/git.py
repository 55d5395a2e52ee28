"""One commit out of a git repository, without its history, by the git program."""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast
from urllib.parse import unquote, urlsplit

from slurm_factory.fetch.http import TransferError, TransientError, UnreachableError, with_retries

ANSWER_SECONDS: Final = 9.0
"""For the list of refs: a wrong address must fail in less than ten seconds."""
FULL_COMMIT: Final = re.compile("[0-9a-f]{40}")
KINDS: Final = ("refs/tags/", "refs/heads/", "refs/remotes/origin/")
"""Where to look for a name, in this order, as git-rev-parse(1) does."""
OF_ANOTHER_REPOSITORY: Final = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    }
)
"""Variables that a git hook sets for its own repository (`git rev-parse --local-env-vars`)."""
TRANSIENT: Final = re.compile(
    r"returned error: (5\d\d|429)|RPC failed|early EOF|hung up|disconnect|reset by peer|too slow"
    r"|bytes/sec|timed out|transfer closed|curl (18|56|92)"
)
"""Transient failures of git (remote-curl.c, fetch-pack.c, curl's messages)."""
NOT_GIVEN: Final = re.compile("not our ref|unadvertised object|no such remote ref")
REASONS: Final = (
    (
        re.compile("Authentication failed|could not read (Username|Password)"),
        "HTTP 401: user name and password are missing or wrong",
    ),
    (re.compile("^repository '.*' not found"), "HTTP 404: there is no git repository"),
    (re.compile("not valid: is this a git repository"), "there is no git repository"),
)
"""Unclear messages of git, and ours."""
CREDENTIALS: Final = (
    '!f() { printf "username=%s\\npassword=%s\\n" "$GIT_FACTORY_USER" "$GIT_FACTORY_PASSWORD"; }; f'
)
"""A credential helper (gitcredentials(7)): git passes URLs to programs as arguments, which every
user of the machine can read."""


class NoSuchRefError(Exception):
    """A repository has no such tag, branch or commit; `near` are similar names."""

    def __init__(self, near: Collection[str] = ()) -> None:
        super().__init__()
        self.near = tuple(near)


class Git:
    """A local bare repository, into which one commit is fetched."""

    def __init__(self, directory: Path, url: str, timeout: float) -> None:
        """Make the repository.

        Args:
            directory: Where to make it (host); must not exist.
            url: URL of the other repository: http, https, or an absolute path (host).
            timeout: Seconds without data after which a transfer counts as aborted.

        Raises:
            TransferError: git is not installed.
        """
        self._directory = directory
        address = urlsplit(url)
        host = address.netloc.rpartition("@")[2]
        self._url = address._replace(netloc=host).geturl() if address.netloc else url
        self._environment = _environment(timeout, address.username, address.password)
        self._options: list[str] = []
        if not address.netloc:
            # The user has named this directory, whoever owns it.
            self._options += ["-c", f"safe.directory={url}", "-c", f"safe.directory={url}/.git"]
        if address.username or address.password:
            self._options += ["-c", "credential.helper=", "-c", f"credential.helper={CREDENTIALS}"]
        self._run("init", "--quiet", "--bare", str(directory))

    def refs(self) -> dict[str, str]:
        """Full names of all refs of the other repository, with their objects.

        Raises:
            TransferError: It is not a repository, or does not answer.
        """
        kinds = ["--tags", "--heads"] * bool(urlsplit(self._url).netloc)
        try:
            listed = self._run("ls-remote", "--quiet", *kinds, self._url, limit=ANSWER_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"no answer within {ANSWER_SECONDS:g} s") from error
        if kinds and not listed:
            # Git treats any web page as the list of a repository without refs.
            raise TransferError("there is no git repository")
        rows = (line.split("\t") for line in listed.splitlines())
        return {name: found for found, name in rows}

    def fetch(self, wanted: str) -> str:
        """Fetch one commit; its id.

        Args:
            wanted: Full name of a ref, or a commit in full.

        Raises:
            TransferError: The transfer failed, or it is not a commit.
            NoSuchRefError: The other repository does not have the commit or does not serve it.
        """
        try:
            self._run("fetch", "--quiet", "--no-tags", "--depth", "1", self._url, wanted)
        except TransferError as error:
            if FULL_COMMIT.fullmatch(wanted) and NOT_GIVEN.search(str(error)):
                raise NoSuchRefError from error
            raise
        return self._run("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()

    @contextmanager
    def archive(self, commit: str, prefix: str = "") -> Iterator[IO[bytes]]:
        """The files of a commit as a tar stream, with `prefix` before their names.

        Raises:
            TransferError: The repository lacks a part of the commit.
        """
        # Without attributes: includes files that releases exclude.
        options = ("--format=tar", "--worktree-attributes", f"--prefix={prefix}")
        command = self._command("archive", *options, commit)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._environment
        ) as process:
            try:
                yield cast("IO[bytes]", process.stdout)
                _, messages = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise _failure(messages.decode(errors="replace"))

    def _command(self, *arguments: str) -> list[str]:
        return ["git", *self._options, f"--git-dir={self._directory}", *arguments]

    def _run(self, *arguments: str, limit: float | None = None) -> str:
        try:
            # In its own session: git's helpers, which do the transfer, end with it.
            process = subprocess.Popen(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise TransferError("git is not installed on this machine") from error
        with process:
            try:
                output, messages = process.communicate(timeout=limit)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode != 0:
            raise _failure(messages)
        return output


def refs_of(url: str, timeout: float) -> dict[str, str]:
    """Full names of all refs of a repository, with their objects.

    Args:
        url: http, https, or an absolute path (host).
        timeout: Seconds without data after which a transfer counts as aborted.

    Raises:
        TransferError: It is not a repository, or does not answer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return with_retries(Git(Path(scratch, "git"), url, timeout).refs)


def fetch_ref(git: Git, ref: str, warn: Callable[[str], None]) -> str:
    """Fetch the commit that `ref` names; its id.

    Args:
        git: The local repository.
        ref: Tag, branch, or a full commit if the other repository serves single commits.
        warn: Called with the reason why a transfer is tried again.

    Raises:
        TransferError: It cannot be fetched.
        NoSuchRefError: There is no such ref.
    """
    wanted = find_ref(ref, with_retries(git.refs, warn))
    return with_retries(lambda: git.fetch(wanted), warn)


def find_ref(name: str, refs: Mapping[str, str]) -> str:
    """The full name of a tag or a branch; a full commit id stands for itself.

    Args:
        name: The name that was asked for.
        refs: Full names of all refs of the repository with their objects.

    Raises:
        NoSuchRefError: There is none; commits are not searched.
    """
    for full in (*(kind + name for kind in KINDS), name):
        if full in refs:
            return full
    if FULL_COMMIT.fullmatch(name):
        return name
    names = {_short(full) for full in refs if full.startswith(KINDS) and not full.endswith("^{}")}
    raise NoSuchRefError(difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5))


def _short(full: str) -> str:
    return full.removeprefix(next(kind for kind in KINDS if full.startswith(kind)))


def _environment(timeout: float, user: str | None, password: str | None) -> dict[str, str]:
    """The environment of git: no prompts, English messages, the certificates of our other
    downloads."""
    given = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER_REPOSITORY}
    authority = given.get("REQUESTS_CA_BUNDLE") or given.get("SSL_CERT_FILE")
    if authority:
        given.setdefault("GIT_SSL_CAINFO", authority)
    return {
        **given,
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1",
        "GIT_HTTP_LOW_SPEED_TIME": str(max(1, round(timeout))),
        "GIT_FACTORY_USER": unquote(user or ""),
        "GIT_FACTORY_PASSWORD": unquote(password or ""),
    }


def _failure(messages: str) -> TransferError:
    """The error for the messages of a failed git; the first error line names the cause."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal: ", "error: "))] or lines
    reason = (
        re.sub(r"^(fatal|error): ", "", telling[0]) if telling else "git failed without a message"
    )
    reason = re.sub(r"^unable to access '[^']*': ", "", reason).rstrip(".")
    if status := re.search(r"The requested URL returned error: (\d+)", reason):
        reason = f"HTTP {status[1]}"
    for words, meaning in REASONS:
        if words.search(reason):
            reason = meaning
            break
    if any(TRANSIENT.search(line) for line in lines):
        return TransientError(reason)
    return TransferError(reason)
