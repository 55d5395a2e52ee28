"""The sources of packages that Spack builds, fetched by the factory's own downloader.

Spack tries each URL once and cannot resume. It also runs in the instance, which cannot reach
mirrors in directories of this machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.layout import ENTRIES
from slurm_factory.exceptions import DownloadError
from slurm_factory.fetch.sources import Source, fetch
from slurm_factory.fetch.upstream import not_here, sources_for
from slurm_factory.instances.instance import CommandError
from slurm_factory.util.documents import LARGEST
from slurm_factory.util.files import atomic_write, file_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.packages import PackageSource
    from slurm_factory.recipes.spack.session import Spack


def fetch_sources(
    spack: Spack, lock: Lock, *, remote: frozenset[str] = frozenset(), every: bool = False
) -> tuple[Path, ...]:
    """Fetch the sources of all packages that are in no build cache into the source cache.

    Args:
        spack: Spack session with the project of `lock` in the instance.
        lock: Packages to install.
        remote: Hashes of packages that were taken from remote build caches.
        every: Include packages in a build cache, and continue after a failure.

    Returns:
        Paths (host) of the sources, in the order of Spack's list.

    Raises:
        DownloadError: One is not available; its message has the path to put it by hand.
        SpackError: Spack does not describe its packages.
        OutputError: The source cache cannot be written, or is full.
    """
    found: list[Path] = []
    failures: list[DownloadError] = []
    nodes = lock.packages if every else _in_no_cache(spack, _unbuilt(spack, lock), remote)
    for wanted in _sources_of(spack, nodes):
        try:
            found += _fetch_source(spack, wanted, every=every)
        except DownloadError as error:
            if every:
                failures.append(error)
            else:
                raise
    if failures:
        raise _together(failures)
    return tuple(dict.fromkeys(found))


def fetch_skipped(spack: Spack, nodes: Sequence[Node]) -> bool:
    """Fetch what `fetch_sources` skipped, since Spack takes nothing from that build cache.

    Spack fetches such a source itself, but neither from directories of this machine nor with as
    much patience. The first failure ends it: behind a firewall, each takes minutes.

    Args:
        spack: As for `fetch_sources`.
        nodes: Packages that are not installed yet, most urgent first.

    Returns:
        Whether it has fetched new sources.

    Raises:
        SpackError: Spack does not describe its packages.
        OutputError: The source cache cannot be written, or is full.
    """
    cache = spack.job.settings.source_cache_dir
    order = {node.hash: place for place, node in enumerate(nodes)}
    sources = sorted(_sources_of(spack, nodes), key=lambda source: order[source.hash])
    missing = [source for source in sources if source.find(cache) is None]
    fetched = False
    try:
        for wanted in missing:
            fetched = bool(_fetch_source(spack, wanted, every=False)) or fetched
    except DownloadError as error:
        spack.job.reporter.line(error.brief)
    return fetched


def require_sources(spack: Spack, lock: Lock) -> None:
    """Fail if a package is not in the build cache and its sources are not in the source cache.

    Raises:
        DownloadError: Lists the missing sources.
        SpackError: Spack does not describe its packages.
    """
    job = spack.job
    cache = job.settings.source_cache_dir
    wanted = _sources_of(spack, _unbuilt(spack, lock))
    missing = [source.label for source in wanted if source.find(cache) is None]
    if missing:
        names = [f"sources of {label}" for label in dict.fromkeys(missing)]
        raise not_here(names, job.plan, job.settings)


def _fetch_source(spack: Spack, wanted: PackageSource, *, every: bool) -> list[Path]:
    """Paths of a source (host); empty if the installation may fetch it itself."""
    settings, reporter = spack.job.settings, spack.job.reporter
    if wanted.source is None:
        found = wanted.find(settings.source_cache_dir)
        if not found:
            found = _clone(spack, wanted, needed=every)
        return [found] if found else []
    path = fetch(
        wanted.source,
        settings.source_cache_dir,
        mirrors=settings.source_mirrors,
        timeout=settings.download_timeout,
        report=reporter.progress,
        warn=reporter.line,
    )
    return [path]


def _clone(spack: Spack, wanted: PackageSource, *, needed: bool) -> Path | None:
    try:
        return _cloned(spack, wanted)
    except DownloadError as error:
        if needed:
            raise
        # Spack tries again when it builds the package.
        spack.job.reporter.line(f"{error.brief} {error.details}")
        return None


def _cloned(spack: Spack, wanted: PackageSource) -> Path:
    """The archive that Spack makes of a commit in the instance, if the base has git."""
    path = spack.job.settings.source_cache_dir / wanted.stored_as
    fetched = spack.instance.build_dir / "spack-sources" / wanted.stored_as
    try:
        spack.run("fetch", f"/{wanted.hash}")
        content = spack.instance.take_file(fetched, LARGEST)
    except CommandError as error:
        details, cause = error.details, error
    else:
        with file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(content)
        return path
    raise DownloadError(
        f"{wanted.label}, a commit of a repository, could not be fetched.",
        details=details,
        resolution=f"Put an archive of that commit at {path}, or add git to the base:"
        " export SLURM_FACTORY_SPACK_BASE_PACKAGES=git",
    ) from cause


def _together(failures: list[DownloadError]) -> DownloadError:
    first = failures[0]
    if len(failures) == 1:
        return first
    return DownloadError(
        f"{len(failures)} sources are not available.",
        details=" ".join(failure.brief for failure in failures),
        resolution=f"The first one: {first.details} {first.resolution}",
    )


def _unbuilt(spack: Spack, lock: Lock) -> tuple[Node, ...]:
    """The packages that are not in the local build cache."""
    places = [cache / ENTRIES for cache in spack.buildcaches]
    return tuple(
        node for node in lock.packages if not any(_is_built(node, entries) for entries in places)
    )


def _in_no_cache(spack: Spack, nodes: Sequence[Node], remote: frozenset[str]) -> tuple[Node, ...]:
    """The `nodes` that are not in remote build caches either."""
    left = tuple(node for node in nodes if node.hash not in remote)
    if len(left) < len(nodes):
        spack.job.reporter.line(
            f"Remote build caches had {len(nodes) - len(left)} of the packages, whose sources are"
            " not fetched."
        )
    return left


def _sources_of(spack: Spack, nodes: Sequence[Node]) -> tuple[PackageSource, ...]:
    if not nodes:
        return ()
    hashes = {node.hash for node in nodes}
    ours = sources_for(spack.job.plan, spack.job.settings).values()
    known = {source.sha256: source for source in ours}
    described = (each for each in spack.packages.values() if each.hash in hashes)
    return tuple(_completed(source, known) for each in described for source in each.sources)


def _completed(listed: PackageSource, known: Mapping[str, Source]) -> PackageSource:
    """With the URLs of our own catalog as well, such as the Debian archive."""
    source = listed.source
    if source is None or source.sha256 not in known:
        return listed
    ours = known[source.sha256]
    urls = tuple(dict.fromkeys((*ours.urls, *source.urls)))
    return replace(listed, source=replace(source, size=ours.size, urls=urls))


def _is_built(node: Node, entries: Path) -> bool:
    """Whether the build cache has it (its layout v3: spack.readthedocs.io, "binary_caches.html").

    By the hash: in versions with a commit, Spack replaces a character.
    """
    return any((entries / node.name).glob(f"*-{node.hash}.spec.manifest.json"))
