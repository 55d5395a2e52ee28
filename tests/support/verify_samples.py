"""A package of real ELF files with a manifest that fits them, compiled once."""

import hashlib
import json
import shutil
from pathlib import Path

from package_samples import EPOCH, IDENTITY, ZLIB, make_manifest
from relocate_toolkit import compile_elf

from slurm_factory.package.manifest import BundledFile, File, Manifest, write_manifest
from slurm_factory.package.modules import write_modules
from slurm_factory.package.publish import write_checksums
from slurm_factory.package.tarball import pack
from slurm_factory.relocate.audit import highest_glibc
from slurm_factory.relocate.elf import scan
from slurm_factory.verify.package import Package

RELOCATABLE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
const char *plugins = "/opt/slurm/software/lib/slurm";
int where(Dl_info *info) { return dladdr(&plugins, info); }
"""
BAKED = 'const char *plugins = "/opt/elsewhere/software/lib/slurm";'


def make_tree(directory: Path) -> Path:
    """A tree with a main library, a bundled one, and what says whose it is."""
    tree = directory / "software"
    compile_elf(tree / "lib/slurm/libslurmfull.so", RELOCATABLE)
    compile_elf(tree / ZLIB.file, "int zlib(void) { return 1; }")
    identity = tree / "share/slurm-factory.json"
    identity.parent.mkdir(parents=True)
    identity.write_text(json.dumps(IDENTITY.model_dump(mode="json")))
    return tree


def pack_package(tree: Path, directory: Path, modules: Path | None = None) -> Package:
    """Pack a tree as it is now, with a manifest that fits it."""
    directory.mkdir(parents=True, exist_ok=True)
    if modules is None:
        modules = directory / "modules"
        write_modules(IDENTITY, modules)
    software = pack(tree, directory / IDENTITY.software_tarball, top="software", mtime=EPOCH)
    module = pack(modules, directory / IDENTITY.module_tarball, top="", mtime=EPOCH)
    checksums = write_checksums([software, module], directory / IDENTITY.checksums)
    shutil.rmtree(modules)
    files = tuple(File.of(each) for each in (software, module, checksums))
    manifest = _fitting(tree, make_manifest(files))
    path = write_manifest(manifest, directory)
    return Package(IDENTITY.stem, software.path, module.path, manifest, path)


def _fitting(tree: Path, manifest: Manifest) -> Manifest:
    bundled: tuple[BundledFile, ...] = ()
    if (tree / ZLIB.file).is_file():
        content = (tree / ZLIB.file).read_bytes()
        bundled = (ZLIB.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()}),)
    glibc = highest_glibc(scan(tree)) or ""
    return manifest.model_copy(update={"bundled": bundled, "glibc": glibc, "features": ()})
