"""What a compiler wants to see of NVML."""

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
    """NVML's header, and a library with the names in it.

    Enough for Slurm's configure and compiler: the plugin opens the driver's own library by name.
    CUDA never enters the graph. The header is read by the compiler only; nothing is shipped.
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
