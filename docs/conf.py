"""Settings of Sphinx, which builds the site from these pages: `make site`."""

import html
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import navigation  # noqa: E402

from slurm_factory import __version__  # noqa: E402

MERMAID = "mermaid.tiny.js"
MERMAID_DIRECTORY = HERE / "site" / "node_modules" / "@mermaid-js" / "tiny" / "dist"
REPOSITORY = "https://github.com/slurm-factory/slurm-factory"
OUTSIDE = re.compile(r"\]\(\.\./([^)]+)\)")
"""A link to a file of the repository that is no page."""

project = "slurm-factory"
release = __version__
# The same bytes on every day.
project_copyright = "the authors of slurm-factory"
html_last_updated_fmt = None

extensions = ["myst_parser"]
exclude_patterns = ["site", "examples"]
myst_enable_extensions = ["attrs_inline"]
myst_fence_as_directive = ["mermaid"]
# As the code host names them.
myst_heading_anchors = 4
# Blocks without a language are no Python.
highlight_language = "none"
nitpicky = True
# It would make a dash of the two hyphens of an option.
smartquotes = False

html_theme = "furo"
html_title = "slurm-factory"
# `make site` fetches Mermaid. Without it, pages show the text of their diagrams.
html_static_path = [
    "site/static",
    *([str(MERMAID_DIRECTORY)] if MERMAID_DIRECTORY.is_dir() else []),
]
html_css_files = ["site.css"]
html_favicon = "site/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}


class Diagram(SphinxDirective):
    """A fence with a diagram, which the reader's browser draws."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The text of the diagram, where the script finds it."""
        text = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>\n', format="html", diagram=True)]


def add_scripts(
    app: Sphinx,
    _page: str,
    _template: str,
    _context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Only pages with a diagram load the script, which is large."""
    if doctree and any(node.get("diagram") for node in doctree.findall(nodes.raw)):
        app.add_js_file(MERMAID)
        app.add_js_file("diagrams.js")


def prepare(_app: Sphinx, name: str, source: list[str]) -> None:
    """Change what works on the code host only: links to files that are no pages.

    The first page also gets the navigation, in the order of the front matter.
    """
    source[0] = OUTSIDE.sub(rf"](<{REPOSITORY}/blob/main/\1>)", source[0])
    if name != "index":
        return
    for group, members in navigation.groups(navigation.pages()):
        entries = "\n".join(f"{page.title} <{page.path.stem}>" for page in members)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {group}\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("mermaid", Diagram)
    app.connect("html-page-context", add_scripts)
    app.connect("source-read", prepare)
