"""What compiler and linker are told, by architecture and base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurm_factory.plan.architectures import ARCHITECTURES
from slurm_factory.plan.glibc import sysroot_of

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from slurm_factory.plan.bases import Base

SLURM_FLAGS = (
    # The defaults of Slurm's configure, without debug information, which stripping would remove
    # (auxdir/x_ac_debug.m4).
    "-O1",
    "-fno-strict-aliasing",
    "-Wall",
    # For plugins: only the loading program can resolve some of their symbols, and Ubuntu's compiler
    # binds all of them at load. Of two such options the linker takes the last (see `make`).
    "-Wl,-z,lazy",
)
STACK_FLAGS = ("-fstack-protector-strong", "-fstack-clash-protection")
CONTROL_FLOW_FLAGS = {"x86_64": "-fcf-protection", "aarch64": "-mbranch-protection=standard"}
LINKER_FLAGS = ("-Wl,-z,relro",)
BIND_NOW = "-Wl,-z,now"
MARKED_LEVELS = ("x86_64_v2", "x86_64_v3", "x86_64_v4")


@dataclass(frozen=True)
class Compiler:
    """Flags of one build.

    Attributes:
        hardening: Flags against exploits, for C and C++: those of Debian's dpkg-buildflags(1)
            but for warnings, and level 3 of _FORTIFY_SOURCE where compiler and C library have it.
        sysroot: Directory of the C library to compile for (instance); None: the base's own.
        level: Level of x86-64 that the CPU needs, such as x86-64-v3; empty: any CPU will do.
        triplet: Architecture to compile for on a machine of another one, as GNU names it.
    """

    hardening: tuple[str, ...]
    sysroot: PurePosixPath | None = None
    level: str = ""
    triplet: str = ""

    def tool(self, name: str) -> str:
        """The command of a tool of the compiler, such as gcc or strip."""
        return f"{self.triplet}-{name}" if self.triplet else name

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of everything that is compiled.

        The compilers of the sysroot give the last one themselves. Here it is a part of what Spack
        knows of a package, so that none of another C library passes for one of this.
        """
        return (*self.hardening, *((f"--sysroot={self.sysroot}",) if self.sysroot else ()))

    @property
    def slurm(self) -> tuple[str, ...]:
        """CFLAGS of Slurm."""
        return (*SLURM_FLAGS, *self.flags)

    @property
    def slurm_linker(self) -> tuple[str, ...]:
        """LDFLAGS of Slurm.

        With the level in each file, loaders from glibc 2.33 on refuse an older CPU in one line, at
        no cost (-z x86-64-v3 of ld(1)).
        """
        return (*LINKER_FLAGS, *((f"-Wl,-z,{self.level}",) if self.level else ()))

    @property
    def make(self) -> tuple[str, ...]:
        """Arguments of make that bind all symbols of Slurm's programs and libraries at load.

        The Makefiles give their linker these two variables, which configure does not set; they do
        not give them to that of plugins.
        """
        return (f"CMD_LDFLAGS={BIND_NOW}", f"LIB_LDFLAGS={BIND_NOW}")


def compiler_for(
    architecture: str, base: Base, floor: str = "", target: str = "", *, cross: bool = False
) -> Compiler:
    """The flags of builds on a base.

    Args:
        architecture: As uname(1) names it.
        base: The distribution.
        floor: Release of glibc to compile for; empty: that of the base.
        target: CPU to compile for, by its name in archspec; empty: any of the architecture.
        cross: Whether the machine is of another architecture.
    """
    level = generic_level(target) if target != architecture else ""
    control_flow = CONTROL_FLOW_FLAGS.get(architecture)
    return Compiler(
        (
            *STACK_FLAGS,
            *((control_flow,) if control_flow else ()),
            # Ubuntu's compiler defines it itself.
            "-U_FORTIFY_SOURCE",
            f"-D_FORTIFY_SOURCE={base.fortify}",
        ),
        sysroot_of(floor),
        level.replace("_", "-") if level in MARKED_LEVELS else "",
        ARCHITECTURES[architecture].triplet if cross else "",
    )


def generic_level(target: str) -> str:
    """The generic CPU of a target, such as x86_64_v4 for zen4; empty for an unknown one."""
    from archspec.cpu import TARGETS  # noqa: PLC0415  # slow, and many plans do without it

    return str(TARGETS[target].generic.name) if target in TARGETS else ""


def cpu_features(target: str) -> tuple[str, ...]:
    """Features of a target's generic CPU that others of the architecture may lack.

    They are named as in /proc/cpuinfo, which calls sse3 by another name; whoever has ssse3 has it.
    """
    from archspec.cpu import TARGETS  # noqa: PLC0415  # slow

    level = generic_level(target)
    features = TARGETS[level].features if level else frozenset()
    return tuple(sorted(features - {"sse3"}))
