"""What compiler and linker are told, by architecture and base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Compiler:
    """Flags of one build.

    Attributes:
        hardening: Flags against exploits, for C and C++: those of Debian's dpkg-buildflags(1)
            but for warnings, and level 3 of _FORTIFY_SOURCE where compiler and C library have it.
        sysroot: Directory of the C library to compile for (instance); None: the base's own.
    """

    hardening: tuple[str, ...]
    sysroot: PurePosixPath | None = None

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
        """LDFLAGS of Slurm."""
        return LINKER_FLAGS

    @property
    def make(self) -> tuple[str, ...]:
        """Arguments of make that bind all symbols of Slurm's programs and libraries at load.

        The Makefiles give their linker these two variables, which configure does not set; they do
        not give them to that of plugins.
        """
        return (f"CMD_LDFLAGS={BIND_NOW}", f"LIB_LDFLAGS={BIND_NOW}")


def compiler_for(architecture: str, base: Base, floor: str = "") -> Compiler:
    """The flags of builds on a base.

    Args:
        architecture: As uname(1) names it.
        base: The distribution.
        floor: Release of glibc to compile for; empty: that of the base.
    """
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
    )
