"""User and group ids of containers: lines of subuid(5) and subgid(5), pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

SMALLEST_ID_RANGE = 65_536
DEFAULT_ID_RANGE = range(1_000_000, 1_001_000_000)
"""LXD's default if no file has an entry (doc/userns-idmap.md)."""
_LINE = re.compile(r"([^:]+):(\d+):(\d+)")

Edit = tuple[str | None, str]
"""The line to remove, if any, and the line to add."""


def id_edits(lines: Sequence[str], id_: int, ids: Sequence[range]) -> tuple[Edit, ...]:
    """The change to subuid(5) or subgid(5) that lets root start containers.

    LXD uses root's ranges as they are. If a range has ids that do not exist here, every start
    fails, as with Debian's own range in a container.

    Args:
        lines: What the file has.
        id_: User or group id on the host that containers may map.
        ids: All ids that exist here.
    """
    entries = [
        (line, match[1], range(int(match[2]), int(match[2]) + int(match[3])))
        for line in lines
        if (match := _LINE.fullmatch(line))
    ]
    own = [(line, entry) for line, name, entry in entries if name == "root"]
    edits: list[Edit] = []
    large = [(line, entry) for line, entry in own if len(entry) >= SMALLEST_ID_RANGE]
    for old, wanted in large:
        taken = [entry for line, _, entry in entries if line != old]
        new = _fitting(wanted, ids, taken)
        if new is not None and new != wanted:
            edits.append((old, f"root:{new.start}:{len(new)}"))
    if not large and (new := _fitting(DEFAULT_ID_RANGE, ids, [entry for *_, entry in entries])):
        edits.append((None, f"root:{new.start}:{len(new)}"))
    if id_ and not any(id_ in entry for _, entry in own):
        edits.append((None, f"root:{id_}:1"))
    return tuple(edits)


def free_ids(ids: Sequence[range], taken: Sequence[range]) -> range | None:
    """A range for containers if the default does not fit; after those of others if possible.

    Args:
        ids: All ids that exist here.
        taken: Ranges that others have.
    """
    ends = (entry.stop for entry in taken if entry.stop > SMALLEST_ID_RANGE)
    starts = [DEFAULT_ID_RANGE.start, *ends, SMALLEST_ID_RANGE]
    for start in starts:
        for existing in ids:
            room = range(max(start, existing.start), min(existing.stop, DEFAULT_ID_RANGE.stop))
            if start in existing and len(room) >= SMALLEST_ID_RANGE:
                return room
    return None


def _fitting(wanted: range, ids: Sequence[range], taken: Sequence[range]) -> range | None:
    """The existing part of a wanted range, or another one; None if there is none."""
    rooms = (range(max(wanted.start, e.start), min(wanted.stop, e.stop)) for e in ids)
    fitting = (room for room in rooms if len(room) >= SMALLEST_ID_RANGE)
    return next(fitting, free_ids(ids, taken))
