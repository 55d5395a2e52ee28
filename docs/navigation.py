"""The pages of the documentation, as the front matter of each describes it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

PAGES = Path(__file__).parent
FENCE = "---\n"
KEYS = {"layout", "title", "nav_order", "permalink", "group"}


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        path: Its Markdown file (host).
        title: Its name in the navigation.
        nav_order: Its place there.
        permalink: Path of its URL below that of the site.
        group: Heading above it in the navigation; empty for the first page.
    """

    path: Path
    title: str
    nav_order: int
    permalink: str
    group: str


def read_page(path: Path) -> Page:
    """The page in a Markdown file (host).

    Raises:
        ValueError: It has no front matter, or not the keys that every page has.
    """
    matter, _ = split_page(path.read_text("utf-8"))
    if set(matter) != KEYS or matter["layout"] != "default":
        raise ValueError(f"{path.name} has the front matter {matter}, not {sorted(KEYS)}")
    return Page(
        path,
        str(matter["title"]),
        int(matter["nav_order"]),
        str(matter["permalink"]),
        str(matter["group"] or ""),
    )


def split_page(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and text of a page; without front matter, {} and all of it."""
    if not text.startswith(FENCE):
        return {}, text
    matter, _, rest = text.removeprefix(FENCE).partition(f"\n{FENCE}")
    return yaml.safe_load(matter) or {}, rest.lstrip("\n")


def pages() -> list[Page]:
    """All pages, as the navigation sorts them."""
    return sorted(map(read_page, PAGES.glob("*.md")), key=lambda page: page.nav_order)


def groups(of: Iterable[Page]) -> list[tuple[str, list[Page]]]:
    """Groups of the navigation with their pages, without the first page."""
    grouped = groupby((page for page in of if page.group), key=lambda page: page.group)
    return [(name, list(members)) for name, members in grouped]
