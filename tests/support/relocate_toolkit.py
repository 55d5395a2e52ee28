"""A small tree of real ELF files, and the instance its libraries come from, compiled once."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.closure import Directory, Library, LibrarySource
from slurm_factory.relocate.policy import Policy
from slurm_factory.relocate.relocate import Relocation, find_closure, relocate

OUTSIDE = {"sonames": ("libc.so.6", "ld-linux*.so.*"), "reason": "the C library", "packages": {}}
POLICY = Policy.model_validate(
    {
        "outside": [OUTSIDE],
        "dlopened": [
            {
                "sonames": ["libnamed.so.2"],
                "named_as": ["libnamed.so.2"],
                "also_tried": ["libnamed.so"],
                "needed_by": ["lib/slurm/*.so"],
                "reason": "the plugin opens it",
            }
        ],
        "only_named": [],
        "directories": [
            {
                "id": "common-plugins",
                "library": "libcommon.so.*",
                "sources": ["/usr/lib/common/plugin"],
                "target": "lib/private/common/plugin",
                "consequence": "no plugins",
            }
        ],
        "known_limits": [{"id": "deep", "applies_to": ["libdeep.so.*"], "text": "is deep"}],
    }
)
"""A policy for the toy tree, as the shipped one in all but names."""

TOOL = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
const char *engine(void);
static void show(const char *path, const char *function) {
  void *library = dlopen(path, RTLD_LAZY);
  if (!library) { printf("%s\n", dlerror()); return; }
  printf("%s\n", ((const char *(*)(void))dlsym(library, function))());
}
int main(int count, char **arguments) {
  char path[4096] = {0};
  if (readlink("/proc/self/exe", path, 4000) < 0) return 1;
  strcpy(strstr(path, "/bin/"), "/lib/slurm/plug.so");
  printf("%s\n", engine());
  show(path, "plug");
  show(path, "plug_named");
  if (count > 1) show(arguments[1], "module");
  return 0;
}
"""
PLUGIN = r"""
#include <dlfcn.h>
const char *common(void);
const char *plug(void) { return common(); }
const char *plug_named(void) {
  void *library = dlopen("libnamed.so", RTLD_NOW);
  if (!library) library = dlopen("libnamed.so.2", RTLD_NOW);
  return library ? ((const char *(*)(void))dlsym(library, "named"))() : dlerror();
}
"""


def compile_elf(
    output: Path, code: str, links: Sequence[Path] = (), options: Sequence[str] = ()
) -> Path:
    """Compile `code` to `output`: a shared library with its file name as soname if it has .so."""
    output.parent.mkdir(parents=True, exist_ok=True)
    shared = ["-shared", "-fPIC", f"-Wl,-soname,{output.name}"] if ".so" in output.name else []
    command = ["gcc", "-xc", "-", "-xnone", *shared, *options, *map(str, links), "-o", str(output)]
    allow = ["-Wl,--allow-shlib-undefined", "-Wl,--no-as-needed"]
    subprocess.run([*command[:1], *allow, *command[1:]], input=code, text=True, check=True)
    return output


def answer(function: str, text: str) -> str:
    """Source of a library whose `function` returns `text`."""
    return f'const char *{function}(void) {{ return "{text}"; }}'


def call(function: str, other: str) -> str:
    """Source of a library whose `function` returns what `other` of another library returns."""
    return f"const char *{other}(void); const char *{function}(void) {{ return {other}(); }}"


def version_script(folder: Path, version: str) -> str:
    """Linker option that gives all symbols of a library the symbol `version`."""
    script = folder / f"{version}.map"
    script.write_text(f"{version} {{ global: *; }};", "utf-8")
    return f"-Wl,--version-script={script}"


def make_common(folder: Path, text: str, version: str = "COMMON_1") -> Path:
    """A libcommon.so.1 whose versioned function returns `text` (compiled into `folder`)."""
    folder.mkdir(parents=True, exist_ok=True)
    return compile_elf(
        folder / "libcommon.so.1",
        answer("common", text),
        options=[version_script(folder, version)],
    )


def relocate_with(tree: Path, source: LibrarySource, policy: Policy = POLICY) -> Relocation:
    """Find the closure of a tree, and relocate it."""
    return relocate(tree, find_closure(tree, source, policy), policy)


@dataclass
class Instance:
    """Stands for the machine of the build: libraries by soname in a folder of the host."""

    folder: Path
    asked: list[str] = field(default_factory=list)

    def fetch(self, sonames: Sequence[str]) -> Mapping[str, Library]:
        self.asked += sonames
        return {
            soname: Library(
                soname=soname,
                path=self.folder / soname,
                origin=PurePosixPath("/usr/lib", soname),
                package=f"{soname}-package",
                version="1.0",
            )
            for soname in sonames
            if (self.folder / soname).is_file()
        }

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        found = [self.folder / pattern.lstrip("/") for pattern in patterns]
        existing = [path for path in found if path.is_dir()]
        if not existing:
            return None
        return Directory(existing[0], PurePosixPath(patterns[0]), "common-package", "1.0")


def make_instance(folder: Path) -> Path:
    """Compile the libraries of the toy instance into `folder`."""
    deep = compile_elf(folder / "libdeep.so.1", answer("deep", "ours"))
    compile_elf(folder / "libdirect.so.1", call("direct", "deep"), [deep])
    compile_elf(folder / "libnamed.so.2", answer("named", "ours"))
    make_common(folder, "ours")
    compile_elf(folder / "usr/lib/common/plugin/extra.so", call("extra", "deep"), [deep])
    return folder


def make_tree(tree: Path, instance: Path) -> Path:
    """Compile the toy tree, as a build would leave it: with run paths of the build."""
    baked = ["-Wl,-rpath,/opt/slurm/software/lib/slurm"]
    engine = compile_elf(
        tree / "lib/slurm/libengine.so",
        call("engine", "direct"),
        [instance / "libdirect.so.1"],
        baked,
    )
    compile_elf(tree / "lib/slurm/plug.so", PLUGIN, [instance / "libcommon.so.1"], baked)
    compile_elf(tree / "bin/tool", TOOL, [engine], baked)
    compile_elf(tree / "bin/alone", "int main(void) { return 0; }")
    return tree
