"""The parts of oneAPI's Level Zero that a compiler needs."""

import re
from pathlib import Path

from spack.package import Executable, depends_on, install, license, mkdirp, version
from spack_repo.builtin.build_systems.generic import Package

HEADERS = ("ze_api.h", "zes_api.h")


class LevelZeroStub(Package):
    """The headers of Level Zero, and a stub library with its functions.

    Enough for Slurm's configure and compiler: the plugin opens the machine's own loader by name.
    oneAPI is not a dependency.
    """

    homepage = "https://github.com/oneapi-src/level-zero"
    url = "https://github.com/oneapi-src/level-zero/archive/refs/tags/v1.26.0.tar.gz"

    license("MIT")

    version("1.26.0", sha256="252dc01ffd2134ba25563d3851b755ff81cbda5982410296d09f3f54c118c16f")

    depends_on("c", type="build")

    def install(self, spec, prefix):
        headers = str(prefix.include.level_zero)
        for directory in (headers, prefix.lib):
            mkdirp(directory)
        for name in HEADERS:
            install(f"include/{name}", headers)
        text = "".join(Path(headers, name).read_text("utf-8") for name in HEADERS)
        names = sorted(set(re.findall(r"^(zes?[A-Z]\w+)\(", text, re.MULTILINE)))
        Path("stub.c").write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
        compiler = Executable(self.module.spack_cc)
        compiler("-shared", "-fPIC", "-o", str(prefix.lib.join("libze_loader.so")), "stub.c")
