"""s2n-tls, for tls/s2n of Slurm."""

from spack.package import depends_on, install, license, mkdirp, run_after, version
from spack_repo.builtin.build_systems.cmake import CMakePackage


class S2nTls(CMakePackage):
    """An implementation of TLS on the libcrypto of OpenSSL.

    The builtin repository has no recipe. The source is the archive of the tag, as munge's is.
    """

    homepage = "https://github.com/aws/s2n-tls"
    url = "https://github.com/aws/s2n-tls/archive/refs/tags/v1.7.7.tar.gz"

    license("Apache-2.0")

    version("1.7.7", sha256="a6f77d2e3343b554bfc2cce27e0407b3c758bb105533c8f0a56e233036b7541d")

    depends_on("c", type="build")
    depends_on("cmake@3.10:", type="build")

    depends_on("openssl@3:")

    def cmake_args(self):
        return [
            "-DBUILD_SHARED_LIBS=ON",
            "-DBUILD_TESTING=OFF",
            "-DS2N_USE_CRYPTO_SHARED_LIBS=ON",
            # Without the features that it probes for there would be no TLS 1.3.
            "-DS2N_ENFORCE_PROPER_LIBCRYPTO_FEATURE_PROBE=ON",
            "-DUNSAFE_TREAT_WARNINGS_AS_ERRORS=OFF",
        ]

    @run_after("install")
    def install_license(self):
        licenses = str(self.prefix.share.licenses.join("s2n-tls"))
        mkdirp(licenses)
        for name in ("LICENSE", "NOTICE"):
            install(name, licenses)
