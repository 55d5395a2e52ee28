"""Git repositories on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dulwich.errors import NotGitRepository
from dulwich.repo import Repo

from slurm_factory.checkouts.refs import NoSuchRefError, find_ref
from slurm_factory.transfer import TransferError

if TYPE_CHECKING:
    from dulwich.objects import ObjectID


@contextmanager
def opened(directory: Path, ref: str) -> Iterator[tuple[Repo, ObjectID]]:
    """A repository, and the object in it that `ref` names.

    Args:
        directory: Of the repository (host).
        ref: Tag, branch or commit.

    Raises:
        TransferError: It is damaged.
        NoSuchRefError: There is no such ref.
    """
    try:
        repository = Repo(str(directory))
    except (NotGitRepository, ValueError) as error:
        raise TransferError("the repository there cannot be read") from error
    with repository:
        refs: dict[bytes, bytes | None] = dict(repository.refs.as_dict().items())
        found = find_ref(ref, refs)
        if found not in repository and found not in refs.values():
            raise NoSuchRefError
        yield repository, found
