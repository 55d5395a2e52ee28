"""The compiler cache of a source, and its statistics for one build."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job
    from slurm_factory.plan.plan import BuildPlan

HITS = ("direct_cache_hit", "preprocessed_cache_hit")
MISS = "cache_miss"


def cached(compiler: str) -> str:
    """The command that compiles with a compiler, or takes the object from the cache."""
    return f"ccache {compiler} -MD"


@dataclass(frozen=True)
class CompilerCacheUse:
    """Numbers of compilations from the cache, and of others."""

    hits: int
    misses: int


def compiler_cache(job: Job) -> Path:
    """Directory (host) of the compiler cache for all that a job compiles."""
    return job.settings.ccache_dir / cache_name(job.plan)


def cache_name(plan: BuildPlan) -> str:
    """Name of the compiler cache for all that a plan compiles.

    It serves only builds of the same sources: nothing shows whether an object in it really comes
    from the source that it claims. Other builds would rarely find anything, because every file of
    Slurm reads a header that contains the release.
    """
    sources = {
        "slurm": plan.release.sha256,
        "patches": [
            *(patch.sha256 for patch in plan.patches),
            plan.backports and plan.backports.sha256,
            *(patch.sha256 for patch in plan.site_patches),
        ],
        # The package recipes, and the packages.
        "spack": [*plan.spack.local_buildcaches, *plan.roots] if plan.spack else [],
    }
    digest = hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:16]
    # What instances of root write belongs to another user than what root itself writes.
    place = "-this-machine" if plan.destructive else ""
    return f"{plan.release.release}-{digest}{place}"


def ccache_environment(job: Job, instance: Instance, source: PurePosixPath) -> dict[str, str]:
    """Settings of ccache for compilations below the directory `source` (instance).

    Depend mode uses the dependencies that the compiler writes (`cached`), instead of
    running the preprocessor a second time (ccache(1), "depend_mode"). The inode cache stores the
    hashes of headers, which every compilation would compute again; it is beside the source and
    removed with it, because inodes are meaningless in another instance (ccache(1), "inode_cache").

    An entry serves a build in any directory: -ffile-prefix-map is what makes its objects the same
    there, so that the directory in it must not count (ccache(1), "ignore_options").
    """
    return {
        "CCACHE_DIR": str(instance.inside(compiler_cache(job))),
        # A file with settings in the cache could name a program to run.
        "CCACHE_CONFIGPATH": str(instance.build_dir / "ccache.conf"),
        "CCACHE_BASEDIR": str(source),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_IGNOREOPTIONS": "-ffile-prefix-map=*",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_DEPEND": "1",
        "CCACHE_INODECACHE": "1",
        "CCACHE_TEMPDIR": str(instance.build_dir / "ccache"),
        "CCACHE_MAXSIZE": job.settings.ccache_size.replace("B", ""),
    }


def compiler_cache_use(stats_log: str) -> CompilerCacheUse:
    """Count the entries of a statistics log (ccache(1), "stats_log").

    It has one line for each incremented counter.
    """
    counters = stats_log.splitlines()
    return CompilerCacheUse(
        hits=sum(counters.count(name) for name in HITS), misses=counters.count(MISS)
    )
