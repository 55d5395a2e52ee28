"""The libraries of Linux-PAM, to link with."""

from pathlib import Path

from spack.package import depends_on, install_tree, license, version
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage

PARTS = ("libpam", "libpamc", "libpam_misc")


class LinuxPam(AutotoolsPackage):
    """libpam, libpamc and libpam_misc with their headers, which include each other.

    Slurm's PAM module runs in the machine's PAM, with the machine's libpam; this one is only
    linked with and stays outside of packages. Not derived from the builtin recipe: that one
    builds all modules too, and Kerberos for one of them.
    """

    homepage = "https://github.com/linux-pam/linux-pam"
    url = "https://github.com/linux-pam/linux-pam/releases/download/v1.5.2/Linux-PAM-1.5.2.tar.xz"

    license("BSD-3-Clause")

    version("1.5.2", sha256="e4ec7131a91da44512574268f493c6d8ca105c87091691b8e9b56ca685d4f94d")

    depends_on("c", type="build")
    depends_on("pkgconfig", type="build")

    def configure_args(self):
        return [
            f"--includedir={self.prefix.include.security}",
            "--disable-static",
            "--disable-audit",
            "--disable-db",
            "--disable-doc",
            "--disable-econf",
            "--disable-nis",
            "--disable-nls",
            "--disable-selinux",
            "--disable-unix",
        ]

    def build(self, spec, prefix):
        for part in PARTS:
            self.module.make("-C", part)

    def install(self, spec, prefix):
        stage = str(Path(self.stage.path, "installed"))
        for part in PARTS:
            self.module.make("-C", part, "install", f"DESTDIR={stage}")
        install_tree(stage + prefix, prefix)
