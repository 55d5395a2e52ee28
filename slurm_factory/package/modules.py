"""Lmod and Tcl module files, which find a package at any path."""

import re
from pathlib import Path, PurePosixPath

from slurm_factory.package.manifest import PackageIdentity
from slurm_factory.package.templates import render
from slurm_factory.plan.compiler import cpu_features, generic_level
from slurm_factory.util.files import write_text

DESCRIPTION = "Slurm workload manager: commands, libraries and headers"
HELP = """\
Adds the commands of Slurm {release} ({build_type} build) to PATH, its manual pages to MANPATH, and
its headers and libraries to the search paths of compilers, pkg-config and CMake.

Slurm reads its configuration from /etc/slurm. The module looks for the package in
SLURM_INSTALL_PREFIX, beside its own file, in /opt/slurm/software and in /opt/software; SLURM_ROOT
is the path where it found the package."""


def render_lmod(identity: PackageIdentity) -> str:
    """The modulefile in Lua (lmod.readthedocs.io, "An Introduction to Writing Modulefiles")."""
    return _render("slurm.lua.j2", identity)


def render_tcl(identity: PackageIdentity) -> str:
    """The modulefile in Tcl (modulefile(5))."""
    return _render("slurm.tcl.j2", identity)


def write_modules(identity: PackageIdentity, directory: Path) -> tuple[Path, ...]:
    """Write both module files below `directory` (host) and return their paths.

    The layout is that of the module tarball: `modules/slurm/<version>.lua` for Lmod,
    `modulefiles/slurm/<version>` for Environment Modules.

    Raises:
        OutputError: They cannot be written.
    """
    contents = {
        PurePosixPath("modules", f"{identity.module}.lua"): render_lmod(identity),
        PurePosixPath("modulefiles", identity.module): render_tcl(identity),
    }
    return tuple(write_text(directory / name, text) for name, text in contents.items())


def _render(template: str, identity: PackageIdentity) -> str:
    return render(
        template,
        {"lua": _lua_string, "tcl": _tcl_string},
        identity=identity,
        level=generic_level(identity.cpu),
        features=cpu_features(identity.cpu),
        description=DESCRIPTION,
        help=HELP.format(release=identity.release, build_type=identity.build_type),
    )


def _lua_string(text: str) -> str:
    """A Lua literal (Lua 5.1 manual, section 2.1)."""
    escaped = re.sub(r'[\\"]', r"\\\g<0>", text)
    return '"' + escaped.replace("\n", "\\n") + '"'


def _tcl_string(text: str) -> str:
    """A Tcl word without substitutions (Tcl(n), rules 4 to 9)."""
    escaped = re.sub(r'[\\"$\[\]{}]', r"\\\g<0>", text)
    return '"' + escaped.replace("\n", "\\n") + '"'
