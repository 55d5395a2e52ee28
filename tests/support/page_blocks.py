"""The shell blocks of the documentation, and what each says about where it runs."""

import re
from dataclasses import dataclass

from paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "install.md"
PAGES = (
    *sorted(REPOSITORY.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    REPOSITORY / "patches" / "README.md",
)
BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?:sh|bash|shell|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKER = re.compile(
    r"on: (?P<machines>[a-z0-9 ]+)(?:, (?P<how>as a user|as the node's line|with lmod|with tcl))?"
    r"|(?P<run>run)"
    r"|not run: (?P<reason>.+)"
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        text: Shell commands.
        machines: Names that the page uses; empty where no machine of the page runs the block.
        how: As whom or with what it runs; "" is root's shell.
        reason: Why no test can run it.
        runs_anywhere: Whether a unit test runs it, with a prepared cache directory.
    """

    text: str
    machines: tuple[str, ...]
    how: str
    reason: str
    runs_anywhere: bool = False


def blocks(page: str) -> list[Block]:
    """All blocks of a page in their order.

    Raises:
        ValueError: A block has no marker, or one that says nothing.
    """
    found = []
    for match in BLOCK.finditer(page):
        marker = MARKER.fullmatch(match["marker"] or "")
        if marker is None:
            raise ValueError(f"no test runs this block, and it does not say why:\n{match['text']}")
        machines = tuple((marker["machines"] or "").split())
        found.append(
            Block(
                match["text"],
                machines,
                marker["how"] or "",
                marker["reason"] or "",
                runs_anywhere=bool(marker["run"]),
            )
        )
    return found
