"""The D-Bus library, which uses the bus of the machine it runs on."""

from pathlib import Path

from spack.package import depends_on, install_tree, license, version
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage


class Dbus(AutotoolsPackage):
    """The C library of D-Bus, with which Slurm asks systemd for a scope.

    Not derived from the builtin recipe: that one needs GLib and X11, and has the socket of the
    system's bus in its own prefix. No daemon: the machine has one.
    """

    homepage = "https://www.freedesktop.org/wiki/Software/dbus/"
    url = "https://dbus.freedesktop.org/releases/dbus/dbus-1.14.10.tar.xz"

    license("AFL-2.1 OR GPL-2.0-or-later")

    version("1.14.10", sha256="ba1f21d2bd9d339da2d4aa8780c09df32fea87998b73da24f49ab9df1e36a50f")

    depends_on("c", type="build")
    depends_on("pkgconfig", type="build")

    def configure_args(self):
        return [
            "--sysconfdir=/etc",
            "--localstatedir=/var",
            "--runstatedir=/run",
            "--with-system-socket=/run/dbus/system_bus_socket",
            "--with-system-pid-file=/run/dbus/pid",
            "--disable-static",
            "--disable-tests",
            "--disable-systemd",
            "--disable-selinux",
            "--disable-apparmor",
            "--disable-libaudit",
            "--disable-xml-docs",
            "--disable-doxygen-docs",
            "--disable-ducktype-docs",
            "--without-x",
            # Only the daemon reads XML, and it is not built.
            "EXPAT_CFLAGS= ",
            "EXPAT_LIBS= ",
        ]

    def build(self, spec, prefix):
        self.module.make("-C", "dbus", "libdbus-1.la")

    def install(self, spec, prefix):
        stage = str(Path(self.stage.path, "installed"))
        parts = ("install-libLTLIBRARIES", "install-dbusincludeHEADERS")
        self.module.make(
            "-C", "dbus", *parts, "install-nodist_dbusarchincludeHEADERS", f"DESTDIR={stage}"
        )
        self.module.make("install-pkgconfigDATA", f"DESTDIR={stage}")
        install_tree(stage + prefix, prefix)
