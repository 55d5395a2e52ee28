"""What Spack's installer prints, as progress."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slurm_factory.output import PackageProgress, duration
from slurm_factory.recipes.spack_lock import HASH_SHOWN

if TYPE_CHECKING:
    from slurm_factory.recipes.spack_lock import Node

STATE = re.compile(r"(?P<hash>[a-z0-9]{7}) (?P<label>[^@\s]+@[^:\s]+): (?P<state>\S.*)")
"""A line of the new installer without a terminal (Spack 1.1, BuildStatus.update_state)."""
FETCHING = "fetching from build cache"
STAGING = "staging"
FINISHED = "finished"
FAILED = "failed"


@dataclass
class PackageState:
    """One package on its way; times are those of the clock, in seconds."""

    node: Node
    phase: str = ""
    """The last one that it was in; `finished` and `failed` are none."""
    from_cache: bool = False
    damaged: bool = False
    """The build cache had it, and it could not be used."""
    began: float | None = None
    ended: float | None = None
    failed: bool = False

    @property
    def done(self) -> bool:
        """Whether it is installed."""
        return self.ended is not None and not self.failed

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended or 0.0) - (self.began or 0.0) if self.ended else 0.0


@dataclass
class InstallProgress:
    """How far an installation is, over several attempts.

    Args:
        nodes: What is to be installed.
        clock: Tells the time in seconds.
    """

    nodes: Iterable[Node]
    clock: Callable[[], float] = time.monotonic
    states: dict[str, PackageState] = field(init=False)

    def __post_init__(self) -> None:
        self.states = {node.hash[:HASH_SHOWN]: PackageState(node) for node in self.nodes}

    def take(self, line: str) -> PackageState | None:
        """Note what a line of output tells; returns the package it is about, if it is about one."""
        found = STATE.fullmatch(line)
        state = self.states.get(found["hash"]) if found else None
        if found is None or state is None:
            return None
        self._change(state, found["state"])
        return state

    def find(self, digest: str) -> PackageState | None:
        """The package with a hash."""
        return self.states.get(digest[:HASH_SHOWN])

    def snapshot(self, last: PackageState | None = None) -> PackageProgress:
        """For the screen; `last` is the package that was just finished."""
        states = self.states.values()
        done = [state for state in states if state.done]
        return PackageProgress(
            done=len(done),
            total=len(self.states),
            cached=sum(state.from_cache for state in done),
            active=tuple(self._active(s) for s in states if s.began is not None and not s.ended),
            last=_finished(last) if last else "",
        )

    def _change(self, state: PackageState, name: str) -> None:
        now = self.clock()
        if name in {FINISHED, FAILED}:
            state.ended, state.failed = now, name == FAILED
            return
        if state.ended is not None or state.began is None:
            state.began, state.ended, state.failed = now, None, False
        if name == FETCHING:
            state.from_cache = True
        elif name == STAGING:
            # Spack says nothing more when it turns from the cache to the source.
            state.damaged = state.damaged or state.from_cache
            state.from_cache = False
        state.phase = name

    def _active(self, state: PackageState) -> str:
        took = duration(self.clock() - (state.began or 0.0))
        return f"{state.node.label}: {state.phase} ({took})"


def _finished(state: PackageState) -> str:
    origin = "from the build cache" if state.from_cache else "built"
    return f"{state.node.label} {origin} in {duration(state.seconds)}"
