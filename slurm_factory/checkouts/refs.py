"""From what people call a state of a repository to the commit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from dulwich.objects import Commit, ObjectID, Tag

from slurm_factory.transfer import TransferError

if TYPE_CHECKING:
    from dulwich.repo import BaseRepo

FULL_COMMIT: Final = re.compile("[0-9a-f]{40}")
KINDS: Final = (b"refs/tags/", b"refs/heads/", b"refs/remotes/origin/")
"""Where a name is looked for, in this order, as git-rev-parse(1) does."""


class NoSuchRefError(Exception):
    """A repository has no such tag, branch or commit; `near` are names like it."""

    def __init__(self, near: Collection[str] = ()) -> None:
        super().__init__()
        self.near = tuple(near)


def find_ref(name: str, refs: Mapping[bytes, bytes | None]) -> ObjectID:
    """The object that a tag, a branch or a full commit id names.

    Args:
        name: What is asked for.
        refs: Full names of all refs of the repository with their objects.

    Raises:
        NoSuchRefError: It has none; a commit is not looked for.
    """
    encoded = name.encode()
    for full in (*(kind + encoded for kind in KINDS), encoded):
        if found := refs.get(full):
            return ObjectID(found)
    if FULL_COMMIT.fullmatch(name):
        return ObjectID(encoded)
    names = {_short(full) for full in refs if full.startswith(KINDS) and not full.endswith(b"^{}")}
    raise NoSuchRefError(difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5))


def commit_at(repository: BaseRepo, found: ObjectID) -> Commit:
    """The commit behind an object, which may be an annotated tag.

    Raises:
        TransferError: It is no commit, or not there.
    """
    try:
        thing = repository[found]
        while isinstance(thing, Tag):
            thing = repository[thing.object[1]]
    except KeyError as error:
        raise TransferError("the repository lacks that commit") from error
    if not isinstance(thing, Commit):
        raise TransferError("that name is not of a commit")
    return thing


def _short(full: bytes) -> str:
    start = next(kind for kind in KINDS if full.startswith(kind))
    return full.removeprefix(start).decode(errors="replace")
