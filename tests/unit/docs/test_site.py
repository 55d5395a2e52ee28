"""The documentation site is built strictly, leads everywhere, and needs no network."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import navigation
import pytest
from paths import REPOSITORY

DOCS = REPOSITORY / "docs"
NO_PAGES = {"genindex", "search"}
"""Made by Sphinx."""
OTHER_HOST = re.compile(r"(?:https?:)?//[a-z]", re.IGNORECASE)


class Links(HTMLParser):
    """What a page refers to.

    Attributes:
        anchors: Ids of its elements.
        targets: Where its links lead.
        resources: What a browser fetches to show it.
        sidebar: Captions of the navigation, each followed by its links.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.resources: list[str] = []
        self.sidebar: list[str] = []
        self._in_tree = self._in_caption = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.targets.append(values["href"])
            if self._in_tree:
                self.sidebar.append(values["href"])
        if tag == "link" and values.get("rel") in {"stylesheet", "icon", "preload"}:
            self.resources.append(values["href"])
        if tag in {"script", "img", "iframe", "source"} and "src" in values:
            self.resources.append(values["src"])
        classes = values.get("class", "").split()
        self._in_tree = self._in_tree or "sidebar-tree" in classes
        self._in_caption = self._in_tree and "caption-text" in classes

    def handle_endtag(self, tag: str) -> None:
        self._in_caption = False
        if tag == "div":
            self._in_tree = False

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            self.sidebar.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning fails all tests here."""
    target = tmp_path_factory.mktemp("site") / "html"
    options = ("--builder", "dirhtml", "--nitpicky", "--fail-on-warning", "--keep-going", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def found(site: Path) -> dict[Path, Links]:
    """What each page refers to."""
    return {path: Links(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def test_make_builds_it_as_this_test_does() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert "sphinx-build --builder dirhtml --nitpicky --fail-on-warning --keep-going" in makefile


def test_url_of_a_page_is_its_permalink(site: Path) -> None:
    permalinks = {page.permalink for page in navigation.pages()}
    assert len(permalinks) == len(navigation.pages())
    built = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    assert permalinks == {f"/{path}/".replace("/./", "/") for path in built - NO_PAGES}


def test_navigation_has_every_page_in_the_order_of_the_front_matter(
    site: Path, found: dict[Path, Links]
) -> None:
    pages = navigation.pages()
    assert len({page.nav_order for page in pages}) == len(pages)
    expected = []
    for group, members in navigation.groups(pages):
        expected += [group, *(page.permalink.removeprefix("/") for page in members)]
    assert found[site / "index.html"].sidebar == expected


def test_groups_are_not_interleaved() -> None:
    names = [name for name, _ in navigation.groups(navigation.pages())]
    assert len(names) == len(set(names))
    assert names[0] == "Start"


@pytest.mark.parametrize(
    "matter",
    [
        "",
        "---\nlayout: default\ntitle: X\nnav_order: 3\ngroup: Use\n---\n",
        "---\nlayout: page\ntitle: X\nnav_order: 3\npermalink: /x/\ngroup: Use\n---\n",
        "---\nlayout: default\ntitle: X\nnav_order: x\npermalink: /x/\ngroup: Use\n---\n",
    ],
)
def test_page_without_its_front_matter_is_refused(matter: str, tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    page.write_text(f"{matter}\n# X\n")
    with pytest.raises(ValueError, match=r"front matter|invalid literal"):
        navigation.read_page(page)


def internal(path: Path, target: str, site: Path) -> tuple[Path, str]:
    """The file and the anchor that a link of a page leads to."""
    url, anchor = urldefrag(target)
    place = (path.parent / unquote(url)).resolve() if url else path
    assert place.is_relative_to(site.resolve()), f"{path.relative_to(site)}: {target}"
    return (place / "index.html" if place.is_dir() else place), unquote(anchor)


def test_link_and_anchor_of_the_built_site_lead_somewhere(
    site: Path, found: dict[Path, Links]
) -> None:
    broken = []
    for path, links in found.items():
        for target in links.targets:
            if urlsplit(target).scheme:
                continue
            file, anchor = internal(path, target, site)
            known = found[file].anchors if file in found else set()
            if not file.exists() or (anchor and anchor not in known):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert not broken
    assert sum(len(links.targets) for links in found.values()) > 1000


def fetched(site: Path, found: dict[Path, Links]) -> Iterator[str]:
    """URLs that a browser fetches by itself."""
    for links in found.values():
        yield from links.resources
    for style in site.rglob("*.css"):
        yield from re.findall(r"url\(['\"]?(?!data:)([^)'\"]+)", style.read_text("utf-8"))
    for picture in site.rglob("*.svg"):
        text = picture.read_text("utf-8")
        yield from re.findall(r"(?:url\(['\"]?(?!#)|href=['\"])([^)'\"]+)", text)


def test_nothing_is_fetched_from_another_host(site: Path, found: dict[Path, Links]) -> None:
    urls = set(fetched(site, found))
    assert len(urls) > 5
    assert not {url for url in urls if OTHER_HOST.match(url)}


def test_search_has_its_index_beside_it(site: Path) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    assert all(f'"{page.path.stem}"' in index for page in navigation.pages())


def test_only_pages_with_a_diagram_load_what_draws_it(site: Path, found: dict[Path, Links]) -> None:
    for page in navigation.pages():
        drawn = "```mermaid" in page.path.read_text("utf-8")
        resources = found[site / page.permalink.removeprefix("/") / "index.html"].resources
        assert drawn == any("diagrams.js" in resource for resource in resources), page.path.name


def test_picture_of_the_terminal_is_light() -> None:
    picture = DOCS / "examples" / "build.svg"
    assert picture.stat().st_size < 100_000
    assert "font-face" not in picture.read_text("utf-8")
