"""The client library of MariaDB."""

from spack.package import depends_on, license, provides, version
from spack_repo.builtin.build_systems.cmake import CMakePackage


class MariadbCClient(CMakePackage):
    """MariaDB's client library, for MariaDB and MySQL servers.

    Not derived from the builtin recipe: that one needs Kerberos, curl and PCRE for plugins that
    Slurm's accounting has no use for.
    """

    homepage = "https://mariadb.com/kb/en/mariadb-connector-c/"
    url = (
        "https://downloads.mariadb.com/Connectors/c/connector-c-3.4.5/"
        "mariadb-connector-c-3.4.5-src.tar.gz"
    )

    license("LGPL-2.1-or-later")

    version("3.4.5", sha256="b17e193816cb25c3364c2cc92a0ad3f1d0ad9f0f484dc76b8e7bdb5b50eac1a3")
    version("3.3.8", sha256="f9f076b4aa9fb22cc94b24f82c80f9ef063805ecd6533a2eb5d5060cf93833e8")

    provides("mariadb-client")
    provides("mysql-client")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("openssl")
    depends_on("zlib-api")

    def cmake_args(self):
        left_out = ("AUTH_GSSAPI_CLIENT", "REMOTE_IO", "ZSTD")
        return [
            self.define("WITH_SSL", "OPENSSL"),
            self.define("WITH_EXTERNAL_ZLIB", True),
            self.define("WITH_UNIT_TESTS", False),
            self.define("WITH_MYSQLCOMPAT", True),
            # As before 3.4: else slurmdbd connects to no server without TLS, such as RHEL 9 has,
            # and Slurm has no setting for it.
            self.define("DEFAULT_SSL_VERIFY_SERVER_CERT", False),
            # The plugin for PAM calls dlsym, which is in libdl before glibc 2.34.
            self.define("CMAKE_C_STANDARD_LIBRARIES", "-Wl,--as-needed -ldl"),
            self.define("INSTALL_LIBDIR", "lib"),
            self.define("INSTALL_PLUGINDIR", "lib/mariadb/plugin"),
            *(self.define(f"CLIENT_PLUGIN_{name}", "OFF") for name in left_out),
        ]
