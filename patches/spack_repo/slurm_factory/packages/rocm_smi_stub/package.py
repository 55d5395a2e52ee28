"""The parts of AMD's system management library that a compiler needs."""

import re
from pathlib import Path

from spack.package import Executable, depends_on, install, license, mkdirp, version
from spack_repo.builtin.build_systems.generic import Package

HEADERS = ("rocm_smi.h", "kfd_ioctl.h")


class RocmSmiStub(Package):
    """The headers of ROCm SMI, and a stub library with its functions.

    Enough for Slurm's configure and compiler: the plugin opens the machine's own library by name.
    ROCm is not a dependency.
    """

    homepage = "https://github.com/ROCm/rocm_smi_lib"
    url = "https://github.com/ROCm/rocm_smi_lib/archive/rocm-6.2.1.tar.gz"

    license("NCSA")

    version("6.2.1", sha256="28543d099fa44b4b79644533644aba4b67fa48d477628dd5802c3b50cc78583a")

    depends_on("c", type="build")

    def install(self, spec, prefix):
        headers = str(prefix.include.rocm_smi)
        for directory in (headers, prefix.lib):
            mkdirp(directory)
        for name in HEADERS:
            install(f"include/rocm_smi/{name}", headers)
        text = Path(headers, "rocm_smi.h").read_text("utf-8")
        names = sorted(set(re.findall(r"^rsmi_status_t\s+(rsmi_\w+)\s*\(", text, re.MULTILINE)))
        Path("stub.c").write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
        compiler = Executable(self.module.spack_cc)
        compiler("-shared", "-fPIC", "-o", str(prefix.lib.join("librocm_smi64.so")), "stub.c")
