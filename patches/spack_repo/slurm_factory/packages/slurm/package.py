"""Slurm: every release of the factory's catalog, with its patches and its feature table."""

import hashlib
import json
import re
from pathlib import Path

from spack.package import (
    conflicts,
    depends_on,
    install,
    install_tree,
    license,
    mkdirp,
    patch,
    run_after,
    tty,
    variant,
    version,
    when,
    which,
)
from spack_repo.builtin.build_systems.autotools import AutotoolsPackage

FACTORY = json.loads(Path(__file__).parents[2].joinpath("factory.json").read_text("utf-8"))

PLACES = {
    "--with-munge": ("munge", ""),
    "--with-hwloc": ("hwloc", ""),
    "--with-pmix": ("pmix", ""),
    "--with-json": ("json-c", ""),
    "--with-http-parser": ("http-parser", ""),
    "--with-libhttp-parser": ("http-parser", ""),
    "--with-yaml": ("libyaml", ""),
    "--with-jwt": ("libjwt", ""),
    "--with-lz4": ("lz4", ""),
    "--with-mysql_config": ("mariadb-c-client", "bin"),
    "--with-nvml": ("nvml-stub", ""),
    "--with-rsmi": ("rocm-smi-stub", ""),
    "--with-oneapi": ("level-zero-stub", ""),
    "--with-hdf5": ("hdf5", "bin/h5cc"),
    "--with-freeipmi": ("freeipmi", ""),
    "--with-rdkafka": ("librdkafka", ""),
    "--with-s2n": ("s2n-tls", ""),
    "--with-ucx": ("ucx", ""),
}
"""Options of configure with a path: the dependency, and the path below its prefix."""
NSS_LIBRARY = "libnss_slurm.so.2"


class Slurm(AutotoolsPackage):
    """Slurm, as the factory configures it.

    Not derived from the builtin recipe: that one needs curl, glib, json-c, lz4, OpenSSL and zlib in
    every build, a subclass cannot take dependencies back, and a minimal package has none of them.
    Nothing is written twice: releases, checksums, patches, compiler flags, and arguments of
    configure for each feature come from factory.json, which the factory writes from its own tables.
    """

    homepage = "https://slurm.schedmd.com"

    license("GPL-2.0-or-later")

    for _version, _source in FACTORY["versions"].items():
        version(_version, **_source)

    for _patch in FACTORY["patches"]:
        patch(_patch["file"], when=_patch["when"])

    for _feature in FACTORY["features"]:
        if _feature["variant"]:
            variant(_feature["variant"], default=False, description=_feature["summary"])
    variant("sysconfdir", default="/etc/slurm", values=any, description="Where slurm.conf is")

    depends_on("c", type="build")
    depends_on("pkgconfig", type="build")

    depends_on("munge")
    depends_on("readline", when="+readline")
    # 2.13.0 is patched from the network.
    depends_on("hwloc@2:2.12", when="+hwloc")
    depends_on("numactl", when="+numa")
    depends_on("pmix@2:5", when="+pmix")
    depends_on("dbus", when="+cgroup")
    depends_on("linux-pam", when="+pam")
    depends_on("mariadb-c-client", when="+mariadb")
    depends_on("lua@5.1:5.4", when="+lua")
    depends_on("curl", when="+curl")
    depends_on("lz4", when="+lz4")
    depends_on("hdf5~mpi+hl", when="+hdf5")
    depends_on("freeipmi", when="+ipmi")
    # Only Kerberos needs Cyrus SASL, which is patched from the network.
    depends_on("librdkafka~sasl", when="+kafka")
    depends_on("s2n-tls", when="+tls")
    # Everything for InfiniBand and RoCE; the machine has the libraries of rdma-core.
    depends_on("ucx@1.9:+cma+dc+mlx5_dv+rc+rdmacm+ud+verbs", when="+ucx")
    depends_on("rdma-core~man_pages~pyverbs", type="build", when="+ucx")
    with when("+restd"):
        depends_on("json-c")
        depends_on("http-parser")
        depends_on("libyaml")
        depends_on("libjwt@1.10:2")
        # libjwt's package recipe does not pass on the path of OpenSSL, which the linker needs.
        depends_on("openssl")

    conflicts("+gtk", msg="sview needs GTK 2, which Spack does not have")

    # Slurm opens the drivers' own libraries by name; only the compiler and configure see these.
    depends_on("nvml-stub", type="build", when="+nvml")
    depends_on("rocm-smi-stub", type="build", when="+rsmi")
    depends_on("level-zero-stub", type="build", when="+oneapi")

    def content_hash(self, content=None):
        """As Spack's, and with what the recipe reads besides its own text.

        Without it, Spack would reuse a package in the build cache that was built with other flags.
        """
        told = {
            name: FACTORY[name] for name in ("prefix", "arguments", "cflags", "ldflags", "make")
        }
        told["epoch"] = self._epoch
        told["patches"] = self._more_patches()
        features = [[row["variant"], row["on"], row["off"]] for row in FACTORY["features"]]
        text = json.dumps([super().content_hash(content), told, features], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def patch(self):
        """Patches of Debian and of the site, after ours, and without fuzz, which Spack allows."""
        apply = which("patch", required=True)
        for name, _ in self._more_patches():
            tty.msg(f"Applying {name}")
            apply(
                *("-p1", "-F0", "--force", "--no-backup-if-mismatch"),
                *("-i", str(Path(__file__).with_name(name))),
            )

    def setup_build_environment(self, env):
        env.set("SOURCE_DATE_EPOCH", self._epoch)

    @property
    def prefix_inside(self):
        """Compiled-in prefix: only a fallback, because Slurm finds its own location."""
        return FACTORY["prefix"]

    def configure_args(self):
        source = self.stage.source_path
        flags = [*FACTORY["cflags"], f"-ffile-prefix-map={source}=/usr/src/slurm"]
        arguments = [
            f"--prefix={self.prefix_inside}",
            f"--sysconfdir={self.spec.variants['sysconfdir'].value}",
            *FACTORY["arguments"],
            # Otherwise configure defines the path of libpmix, and the plugin opens it only there,
            # regardless of its run path (auxdir/x_ac_pmix.m4).
            "--with-rpath",
            f"CFLAGS={' '.join(flags)}",
            f"LDFLAGS={' '.join(FACTORY['ldflags'])}",
        ]
        for feature in FACTORY["features"]:
            if self._has(feature):
                arguments += [self._located(argument) for argument in feature["on"]]
            else:
                arguments += feature["off"]
        if self.spec.satisfies("+curl"):
            # As --with-libcurl=PREFIX it would leave out the plugins (auxdir/x_ac_curl.m4).
            config = self.spec["curl"].prefix.bin.join("curl-config")
            arguments.append(f"ac_cv_path__libcurl_config={config}")
        return arguments

    def build(self, spec, prefix):
        for directory in self._directories():
            self.module.make("-C", directory, *FACTORY["make"], self._pam_dir())

    def install(self, spec, prefix):
        stage = str(Path(self.stage.path, "installed"))
        self.module.make("install-pkgincludeHEADERS", f"DESTDIR={stage}")
        for directory in (*self._directories(), "doc/man", "etc"):
            self.module.make(
                *("-C", directory, "install", f"DESTDIR={stage}"),
                *FACTORY["make"],
                self._pam_dir(),
            )
        install_tree(stage + self.prefix_inside, prefix)
        # In a separate directory, so that adding it to ld.so.conf adds no other library of the
        # tree.
        mkdirp(str(prefix.lib.nss))
        Path(prefix.lib, NSS_LIBRARY).rename(prefix.lib.nss.join(NSS_LIBRARY))
        self._install_completions(prefix)
        licenses = str(prefix.share.licenses.slurm)
        mkdirp(licenses)
        for name in ("COPYING", "DISCLAIMER", "LICENSE.OpenSSL"):
            install(name, licenses)

    def _install_completions(self, prefix):
        """bash-completion looks for a file with the name of each command."""
        target = Path(prefix, "share/bash-completion/completions")
        source = Path("contribs/slurm_completion_help/slurm_completion.sh")
        mkdirp(str(target))
        install(str(source), str(target))
        for name in re.findall(r"(?m)^complete .* ([a-z]+)$", source.read_text("utf-8")):
            if Path(prefix.bin, name).exists() or Path(prefix.sbin, name).exists():
                target.joinpath(name).symlink_to(source.name)

    @run_after("install")
    def keep_evidence(self):
        """Arguments and results of configure, for the check of the package.

        Spack's new installer archives no files of its own accord.
        """
        kept = Path(self.metadata_dir, "archived-files")
        mkdirp(str(kept))
        for name in ("config.h", "config.log"):
            install(str(Path(self.build_directory, name)), str(kept))
        arguments = "".join(f"{argument}\n" for argument in self.configure_args())
        (kept / "configure-arguments").write_text(arguments, "utf-8")

    @property
    def _epoch(self):
        """Time of the release; "0" for one that is not the factory's, such as an external."""
        return str(FACTORY["epochs"].get(str(self.version), 0))

    def _more_patches(self):
        """File name and checksum, in order, of patches of this release only."""
        more = FACTORY["more_patches"]
        return more["files"] if more["version"] == str(self.version) else []

    def _has(self, feature):
        return not feature["variant"] or self.spec.satisfies(f"+{feature['variant']}")

    def _located(self, argument):
        option = argument.partition("=")[0]
        if option not in PLACES:
            return argument
        name, below = PLACES[option]
        return f"{option}={Path(self.spec[name].prefix, below)}"

    def _directories(self):
        wanted = ["src", "contribs/pmi", "contribs/pmi2", "contribs/nss_slurm"]
        if self.spec.satisfies("+pam"):
            wanted += ["contribs/pam", "contribs/pam_slurm_adopt"]
        return [directory for directory in wanted if Path(self.build_directory, directory).is_dir()]

    def _pam_dir(self):
        return f"PAM_DIR={self.prefix_inside}/lib/security"
