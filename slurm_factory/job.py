"""One build: the decisions, and the objects that every step uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.workspace import Workspace


@dataclass(frozen=True)
class Place:
    """A machine of another LXD on which a build runs.

    Attributes:
        member: Name of the member of the cluster, or of the server.
        architecture: As uname(1) names it.
        cpus: How many it has.
        memory: In bytes.
        clustered: Whether LXD has to be told on which member something is to be.
    """

    member: str
    architecture: str
    cpus: int
    memory: int
    clustered: bool = False


@dataclass(frozen=True)
class Job:
    """Together with Instance and Built, everything that a step of a build gets.

    It is below instances, recipes and packaging, because all of them use it.

    Attributes:
        plan: What to build.
        settings: Settings of this site.
        reporter: Takes steps and lines.
        workspace: Directories of this build (host), below the cache directory.
        jobs: Number of parallel compilers.
        offline: Download nothing.
        keep: Always keep the instance.
        started: When the build began.
        lock: Text of the spack.lock to build; empty: a saved one, else Spack decides.
        place: The machine of another LXD; None: LXD on this machine, or this machine itself.
    """

    plan: BuildPlan
    settings: Settings
    reporter: Reporter
    workspace: Workspace
    jobs: int
    offline: bool = False
    keep: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    lock: str = ""
    place: Place | None = None
