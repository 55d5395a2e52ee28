"""License texts of what Spack built: Spack keeps none with a package, its source has them."""

from __future__ import annotations

import ast
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slurm_factory.util.files import appearing

LICENSE_NAME = re.compile(r"(un)?licen[cs]es?|copying|copyright|notice|disclaimer", re.IGNORECASE)
"""Start of the name of a file that holds a license, or of a directory of such files."""
LICENSE_IN = {"lua": "src/lua.h"}
"""Packages whose license stands in another file of their source."""
LARGEST = 1 << 20
"""Bytes of a license text; what is larger is none."""
ARCHIVES = "_source-cache/archive"
COMMITS = "_source-cache/git"
COMMIT = re.compile(r"git\.(?P<commit>[0-9a-f]{40})(=.*)?")
"""How Spack writes a version that is a commit."""


@dataclass(frozen=True)
class RecipeFacts:
    """What a recipe says: SPDX expressions, home page, SHA-256 of the source by version."""

    licenses: tuple[str, ...]
    homepage: str
    sources: dict[str, str]


def read_recipe(text: str) -> RecipeFacts:
    """What stands in a recipe of Spack as plain constants; the recipe is not run.

    Raises:
        SyntaxError: It is not Python.
    """
    licenses: list[str] = []
    sources: dict[str, str] = {}
    homepage = ""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            about = _constant(node.args[0])
            named = {keyword.arg: _constant(keyword.value) for keyword in node.keywords}
            if node.func.id == "license" and about:
                licenses.append(about)
            elif node.func.id == "version" and named.get("sha256"):
                sources[about] = named["sha256"]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "homepage":
            homepage = _constant(node.value)
    return RecipeFacts(tuple(dict.fromkeys(licenses)), homepage, sources)


@dataclass(frozen=True)
class LicenseFinder:
    """Finds or makes the license text of packages.

    Attributes:
        source_cache: Source mirror in Spack's layout (host).
        kept: Directory (host) for texts that were found in archives once.
    """

    source_cache: Path
    kept: Path

    def text(self, name: str, version: str, recipes: Sequence[str], shipped: Sequence[Path]) -> str:
        """The license text of a package.

        Args:
            name: Of the package.
            version: Its version.
            recipes: Texts of its recipes, ours before the builtin one.
            shipped: License files that the package itself has installed (host).

        Returns:
            All texts one after the other; where there are none, what the recipe says of the
            license, and that its text could not be had.
        """
        if shipped:
            return _joined((path.name, path.read_bytes()) for path in sorted(shipped))
        facts = [read_recipe(recipe) for recipe in recipes]
        commit = COMMIT.fullmatch(version)
        digests = [about.sources[version] for about in facts if version in about.sources]
        for digest in [commit["commit"]] if commit else digests:
            found = self._from_source(name, digest)
            if found:
                return found
        return _statement(name, version, facts)

    def _from_source(self, name: str, digest: str) -> str:
        """From the archive with a SHA-256 checksum, or of a commit."""
        kept = self.kept / f"{digest}.txt"
        if kept.exists():
            return kept.read_text("utf-8")
        archives = [
            *sorted((self.source_cache / ARCHIVES / digest[:2]).glob(f"{digest}*")),
            *sorted((self.source_cache / COMMITS).rglob(f"{digest}*")),
        ]
        found = "".join(_joined(_texts(archive, LICENSE_IN.get(name))) for archive in archives[:1])
        if found:
            self.kept.mkdir(parents=True, exist_ok=True)
            with appearing(kept) as file:
                file.write(found.encode())
        return found


def _texts(archive: Path, other: str | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of the license files of a source archive, wherever its top is."""
    try:
        with tarfile.open(archive) as source:
            for member in source:
                if not member.isfile() or member.size > LARGEST:
                    continue
                name = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                stream = source.extractfile(member) if _is_license(name, other) else None
                if stream:
                    yield str(name), stream.read()
    except (tarfile.TarError, OSError, EOFError):
        # No archive that Python reads, such as a single file: the recipe still tells the license.
        return


def _is_license(name: PurePosixPath, other: str | None) -> bool:
    depth = len(name.parts)
    at_top = depth == 1 or (depth == 2 and LICENSE_NAME.match(name.parts[0]))  # noqa: PLR2004
    return str(name) == other or bool(at_top and LICENSE_NAME.match(name.parts[0]))


def _joined(texts: Iterator[tuple[str, bytes]] | Sequence[tuple[str, bytes]]) -> str:
    parts = (f"==> {name} <==\n\n{content.decode('utf-8', 'replace')}" for name, content in texts)
    return "\n\n".join(parts)


def _statement(name: str, version: str, facts: Sequence[RecipeFacts]) -> str:
    licenses = next((f.licenses for f in facts if f.licenses), ())
    homepage = next((f.homepage for f in facts if f.homepage), "")
    said = " and ".join(licenses) or "not stated"
    return (
        f"{name} {version}\nLicense by Spack's recipe: {said}\nHome page: {homepage}\n\n"
        "The text of the license was not in a source archive on the machine that made this"
        " package; the home page has it.\n"
    )


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
