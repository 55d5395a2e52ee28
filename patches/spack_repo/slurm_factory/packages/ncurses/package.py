"""ncurses that reads the terminal descriptions of the machine it runs on."""

import hashlib
import inspect
from pathlib import Path

from spack.package import symlink
from spack_repo.builtin.packages.ncurses.package import Ncurses as BuiltinNcurses

TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")
"""The directories of Debian, RHEL and SUSE."""


class Ncurses(BuiltinNcurses):
    """The builtin recipe looks for terminal descriptions in its own prefix only.

    A moved tree leaves that behind, and terminals without a description cannot edit lines. Nor
    are descriptions, programs and static libraries built, which no package needs.
    """

    def content_hash(self, content=None):
        """As Spack's, and with the builtin recipe, which does most of the work."""
        builtin = Path(inspect.getfile(BuiltinNcurses)).read_bytes()
        text = super().content_hash(content) + super().content_hash(builtin)
        return hashlib.sha256(text.encode()).hexdigest()

    def configure(self, spec, prefix):
        left_out = ("ada", "cxx", "cxx-binding", "debug", "manpages", "normal", "progs", "tests")
        self.module.configure(
            f"--prefix={prefix}",
            "--with-shared",
            "--enable-widec",
            "--enable-overwrite",
            "--enable-pc-files",
            f"--with-pkg-config-libdir={prefix.lib.pkgconfig}",
            # One library of this name serves wide and narrow characters, as in distributions.
            "--with-termlib=tinfo",
            f"--with-terminfo-dirs={':'.join(TERMINFO)}",
            "--with-default-terminfo-dir=/usr/share/terminfo",
            "--disable-db-install",
            "--disable-stripping",
            *(f"--without-{part}" for part in left_out),
        )

    def build(self, spec, prefix):
        self.module.make()

    def install(self, spec, prefix):
        self.module.make("install")
        for library in ("ncurses", "form", "menu", "panel"):
            symlink(f"lib{library}w.so", str(Path(prefix.lib, f"lib{library}.so")))
