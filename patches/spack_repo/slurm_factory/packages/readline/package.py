"""readline without downloads of single patches."""

from spack.package import depends_on, license, version
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage


class Readline(AutotoolsPackage):
    """Line editing for programs that read commands.

    Not derived from the builtin recipe: its corrections after a release are a download each from
    another place than the source, which no source cache of archives has.
    """

    homepage = "https://tiswww.case.edu/php/chet/readline/rltop.html"
    url = "https://ftp.gnu.org/gnu/readline/readline-8.3.tar.gz"

    license("GPL-3.0-or-later")

    version("8.3", sha256="fe5383204467828cd495ee8d1d3c037a7eba1389c22bc6a041f627976f9061cc")

    depends_on("c", type="build")
    depends_on("ncurses")

    def configure_args(self):
        return [
            "--disable-static",
            "--disable-install-examples",
            # Looks for an installed locale: the library would differ from base to base.
            "bash_cv_wcwidth_broken=no",
        ]

    def build(self, spec, prefix):
        self.module.make("SHLIB_LIBS=-ltinfo")

    def install(self, spec, prefix):
        self.module.make("SHLIB_LIBS=-ltinfo", "install")
