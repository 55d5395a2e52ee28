"""The code blocks of docs/install.md, and what each says about where it runs."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = Path(__file__).parents[2] / "docs" / "install.md"
BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>.*?) -->\n)?^```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARKER = re.compile(
    r"on: (?P<machines>[a-z0-9 ]+)(?:, (?P<how>as a user|as the node's line|with lmod|with tcl))?"
    r"|not run: (?P<reason>.+)"
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        text: Shell commands.
        machines: Names that the page uses; empty where no test can run the block.
        how: As whom or with what it runs; "" is root's shell.
        reason: Why no test can run it.
    """

    text: str
    machines: tuple[str, ...]
    how: str
    reason: str


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
        found.append(Block(match["text"], machines, marker["how"] or "", marker["reason"] or ""))
    return found
