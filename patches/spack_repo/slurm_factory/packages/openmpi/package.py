"""Open MPI that works at any path."""

import re
import shutil
from pathlib import Path

from spack.package import (
    any_combination_of,
    depends_on,
    find_libraries,
    license,
    patch,
    provides,
    run_after,
    variant,
    version,
)
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage

FABRICS = {"ofi": "libfabric", "ucx": "ucx"}
LEFT_OUT = ("cuda", "rocm", "psm2", "knem", "xpmem", "ucc", "lsf", "tm", "sge")


class Openmpi(AutotoolsPackage):
    """Open MPI with its own launcher, for Slurm and PMIx.

    Not derived from the builtin recipe: that one depends on Slurm, so that each release of Slurm
    would build an Open MPI of its own, on a PRRTE with another prefix and on OpenSSH, and patches
    releases from the network; a subclass cannot take any of that back. Slurm itself is found by
    PATH when a job starts.
    """

    homepage = "https://www.open-mpi.org"
    url = "https://download.open-mpi.org/release/open-mpi/v5.0/openmpi-5.0.10.tar.bz2"
    git = "https://github.com/open-mpi/ompi.git"

    license("BSD-3-Clause-Open-MPI")

    version("5.0.10", sha256="0acecc4fc218e5debdbcb8a41d182c6b0f1d29393015ed763b2a91d5d7374cc6")
    version("5.0.9", sha256="dfb72762531170847af3e4a0f21d77d7b23cf36f67ce7ce9033659273677d80b")
    version("5.0.8", sha256="53131e1a57e7270f645707f8b0b65ba56048f5b5ac3f68faabed3eb0d710e449")
    version("5.0.7", sha256="119f2009936a403334d0df3c0d74d5595a32d99497f9b1d41e90019fee2fc2dd")
    version("5.0.6", sha256="bd4183fcbc43477c254799b429df1a6e576c042e74a2d2f8b37d537b2ff98157")

    variant("fortran", default=True, description="Bindings for Fortran, mpifort")
    variant(
        "fabrics",
        values=any_combination_of(*FABRICS),
        description="Libraries for fast networks; TCP and shared memory are always there",
    )

    provides("mpi@:3.1")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("fortran", type="build", when="+fortran")
    depends_on("perl", type="build")
    depends_on("pkgconfig", type="build")

    depends_on("hwloc@2.0:2")
    depends_on("libevent@2.0.21:")
    # Slurm's own PMIx, and one that the PRRTE in here accepts (3rd-party/prrte/VERSION).
    depends_on("pmix@4.2.4:5")
    depends_on("zlib-api")
    depends_on("libfabric@1.9:", when="fabrics=ofi")
    depends_on("ucx@1.9: +thread_multiple", when="fabrics=ucx")

    patch("openmpi-relocatable.patch")

    def setup_build_environment(self, env):
        # ompi_info shows who built it, where and when: use fixed values.
        for name in ("USER", "HOSTNAME"):
            env.set(name, "slurm-factory")
        env.set("SOURCE_DATE_EPOCH", "0")

    def configure_args(self):
        places = {"hwloc": "hwloc", "libevent": "libevent", "pmix": "pmix", "zlib": "zlib-api"}
        left_out = list(LEFT_OUT)
        for name, package in FABRICS.items():
            if self.spec.satisfies(f"fabrics={name}"):
                places[name] = package
            else:
                left_out.append(name)
        parts = ("oshmem", "io-romio", "java", "mpi-java", "sphinx", "static")
        return [
            *(f"--with-{name}={self.spec[package].prefix}" for name, package in places.items()),
            *(f"--without-{name}" for name in left_out),
            *(f"--disable-{part}" for part in parts),
            *self.enable_or_disable("mpi-fortran", variant="fortran"),
            "--enable-mpi1-compatibility",
            # Installed in the same tree, it moves along. One outside has its own prefix.
            "--with-prrte=internal",
            "--with-slurm",
        ]

    @run_after("install")
    def leave_out(self):
        # 64 MB of HTML.
        shutil.rmtree(self.prefix.share.doc, ignore_errors=True)
        for archive in Path(self.prefix.lib).rglob("*.la"):
            archive.unlink()

    @run_after("install")
    def name_compilers_of_the_machine(self):
        # mpicc would call Spack's compiler wrapper, which stays behind.
        for data in Path(self.prefix.share.openmpi).glob("*-wrapper-data.txt"):
            text = data.read_text("utf-8")
            data.write_text(re.sub(r"(?m)^compiler=.*/", "compiler=", text), "utf-8")

    def setup_dependent_package(self, module, dependent_spec):
        self.spec.mpicc = self.prefix.bin.mpicc
        self.spec.mpicxx = self.prefix.bin.join("mpic++")
        self.spec.mpifc = self.prefix.bin.mpifort
        self.spec.mpif77 = self.prefix.bin.mpifort

    @property
    def libs(self):
        return find_libraries("libmpi", root=self.prefix, shared=True, recursive=True)
