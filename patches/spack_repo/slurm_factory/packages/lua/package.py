"""The library of Lua, for programs that have scripts."""

from pathlib import Path

from spack.package import Executable, depends_on, license, mkdirp, symlink, version
from spack_repo.builtin.build_systems.makefile import MakefilePackage

PKG_CONFIG = """\
prefix={prefix}
Name: Lua
Description: Library of the Lua language
Version: {version}
Libs: -L${{prefix}}/lib -llua -lm -ldl
Cflags: -I${{prefix}}/include
"""


class Lua(MakefilePackage):
    """Lua as a shared library.

    Not derived from the builtin recipe: that one builds LuaRocks too, from the network, and needs
    curl and unzip at run time for it.
    """

    homepage = "https://www.lua.org"
    url = "https://www.lua.org/ftp/lua-5.4.8.tar.gz"

    license("MIT")

    version("5.4.8", sha256="4f18ddae154e793e46eeab727c59ef1c0c0c2b744e7b94219710d76f530629ae")
    version("5.4.6", sha256="7d5ea1b9cb6aa0b59ca3dde1c6adcb57ef83a1ba8e5432c0ecd06bf439b3ad88")
    version("5.4.4", sha256="164c7849653b80ae67bec4b7473b884bf5cc8d2dca05653475ec2ed27b9ebf61")

    depends_on("c", type="build")

    @property
    def _library(self):
        # One of the names by which Slurm opens it (src/lua/slurm_lua.c).
        return f"liblua.so.{self.version.up_to(2)}"

    def build(self, spec, prefix):
        # Without this macro, Lua cannot load C modules with dlopen.
        flags = "MYCFLAGS=-fPIC -DLUA_USE_LINUX"
        self.module.make("-C", "src", "a", flags, f"CC={self.module.spack_cc}")
        linker = Executable(self.module.spack_cc)
        whole = ("-Wl,--whole-archive", "src/liblua.a", "-Wl,--no-whole-archive")
        linker(
            "-shared", f"-Wl,-soname,{self._library}", "-o", self._library, *whole, "-lm", "-ldl"
        )

    def install(self, spec, prefix):
        for directory in (prefix.include, prefix.lib.pkgconfig):
            mkdirp(directory)
        headers = ("lua.h", "luaconf.h", "lualib.h", "lauxlib.h")
        for name in headers:
            Path(prefix.include, name).write_bytes(Path("src", name).read_bytes())
        library = Path(prefix.lib, self._library)
        library.write_bytes(Path(self._library).read_bytes())
        library.chmod(0o755)
        symlink(self._library, str(Path(prefix.lib, "liblua.so")))
        text = PKG_CONFIG.format(prefix=prefix, version=self.version)
        for name in ("lua.pc", f"lua{self.version.up_to(2)}.pc"):
            Path(prefix.lib.pkgconfig, name).write_text(text, "utf-8")
