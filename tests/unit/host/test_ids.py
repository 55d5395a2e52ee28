"""Which ids containers may have, as subuid(5) and subgid(5) say it."""

import pytest

from slurm_factory.host.ids import Edit, free_ids, id_edits

ALL = (range(2**32 - 1),)
LXD_CONTAINER = (range(10_000_001),)
"""What an unprivileged container of Debian's LXD has."""
SMALL = (range(200_000),)
ROOTLESS = (range(1), range(1, 65_537))
"""What a container of an ordinary user has (podman)."""
DEFAULT = "root:1000000:1000000000"
DEBIAN = "root:165536:10000001"


@pytest.mark.parametrize(
    ("lines", "ids", "edits"),
    [
        ((DEBIAN, "root:1000:1"), ALL, ()),
        ((DEBIAN,), ALL, ((None, "root:1000:1"),)),
        (("root:500:1000",), ALL, ((None, DEFAULT),)),
        (("alice:100000:65536",), ALL, ((None, DEFAULT), (None, "root:1000:1"))),
        (("root:x:y", "root"), ALL, ((None, DEFAULT), (None, "root:1000:1"))),
        ((DEBIAN, "root:1000:1"), LXD_CONTAINER, ((DEBIAN, "root:165536:9834465"),)),
        (("root:1000:1",), LXD_CONTAINER, ((None, "root:1000000:9000001"),)),
        ((DEFAULT, "root:1000:1"), SMALL, ((DEFAULT, "root:65536:134464"),)),
        (
            (DEFAULT, "alice:100000:32000", "root:1000:1"),
            SMALL,
            ((DEFAULT, "root:132000:68000"),),
        ),
        ((DEBIAN, "root:1000:1"), ROOTLESS, ()),
    ],
)
def test_root_gets_ids_that_exist_and_the_one_of_the_cache(
    lines: tuple[str, ...], ids: tuple[range, ...], edits: tuple[Edit, ...]
) -> None:
    assert id_edits(lines, 1000, ids) == edits
    after = [line for line in lines if line not in {old for old, _ in edits}]
    assert id_edits([*after, *(new for _, new in edits)], 1000, ids) == ()


def test_container_with_too_few_ids_for_another_one_is_recognized() -> None:
    assert free_ids(ROOTLESS, ()) is None
    assert free_ids(LXD_CONTAINER, ()) is not None
    assert free_ids(ALL, ()) == range(1_000_000, 1_001_000_000)
