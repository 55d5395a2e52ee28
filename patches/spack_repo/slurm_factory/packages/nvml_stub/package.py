"""The parts of NVML that a compiler needs."""

import hashlib
import json
from pathlib import Path
from zipfile import ZipFile

from spack.package import Executable, depends_on, license, version
from spack_repo.builtin.build_systems.generic import Package

HERE = Path(__file__).parent
FACTORY = json.loads(HERE.parents[1].joinpath("factory.json").read_text("utf-8"))
SCRIPT = HERE / "make-nvml-stub.sh"
HEADER = "nvidia/nvml_dev/include/nvml.h"


class NvmlStub(Package):
    """NVML's header, and a stub library with its functions.

    Enough for Slurm's configure and compiler: the plugin opens the driver's own library by name.
    CUDA is not a dependency. Only the compiler reads the header; packages contain nothing of it.
    """

    homepage = "https://developer.nvidia.com/management-library-nvml"

    license("Proprietary")

    for _version, _source in FACTORY["nvml"].items():
        version(_version, expand=False, **_source)

    depends_on("c", type="build")

    def content_hash(self, content=None):
        """As Spack's, and with the script, which makes what is installed."""
        text = super().content_hash(content) + SCRIPT.read_text("utf-8")
        return hashlib.sha256(text.encode()).hexdigest()

    def install(self, spec, prefix):
        with ZipFile(self.stage.archive_file) as wheel:
            Path("nvml.h").write_bytes(wheel.read(HEADER))
        script = Executable("bash")
        script(str(SCRIPT), extra_env={"HEADER": "nvml.h", "PREFIX": str(prefix)})
