"""munge, at the paths where every machine looks for it."""

from pathlib import Path

from spack.package import depends_on, install, install_tree, license, mkdirp, version
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage


class Munge(AutotoolsPackage):
    """An authentication service for hosts that share a key.

    Not derived from the builtin recipe: that one builds OpenSSL and libgcrypt for every munge,
    which uses one of them, and patches releases before 0.5.18 from the network. The source is the
    archive of the tag, as Slurm's is: everyone with the repository can make the same bytes again.
    """

    homepage = "https://dun.github.io/munge/"
    url = "https://github.com/dun/munge/archive/refs/tags/munge-0.5.18.tar.gz"

    license("GPL-3.0-or-later AND LGPL-3.0-or-later")

    version("0.5.18", sha256="d211b05da265c391fd4f9714d04908725669f845d2b2cc8b70ca65fd6cac497a")

    depends_on("c", type="build")
    depends_on("autoconf", type="build")
    depends_on("automake", type="build")
    depends_on("libtool", type="build")
    depends_on("m4", type="build")

    depends_on("bzip2")
    depends_on("libgcrypt")
    depends_on("zlib-api")

    @property
    def autoreconf_extra_args(self):
        # Without libgcrypt's macro configure leaves the library out.
        return ["-I", str(self.spec["libgcrypt"].prefix.share.aclocal)]

    def configure_args(self):
        # Key, socket and seed belong to the machine, and its other munge programs share them.
        return [
            "--sysconfdir=/etc",
            "--localstatedir=/var",
            "--with-runstatedir=/run",
            "--with-crypto-lib=libgcrypt",
            f"--with-libgcrypt-prefix={self.spec['libgcrypt'].prefix}",
            "--disable-static",
            *(f"--without-{name}dir" for name in ("logrotate", "sysvinit", "sysconfig")),
            "--without-systemdunitdir",
            "--without-systemdsysusersdir",
        ]

    def install(self, spec, prefix):
        stage = str(Path(self.stage.path, "installed"))
        self.module.make("install", f"DESTDIR={stage}")
        install_tree(stage + prefix, prefix)
        licenses = str(prefix.share.licenses.munge)
        mkdirp(licenses)
        for name in ("COPYING", "COPYING.LESSER"):
            install(name, licenses)
