"""The real Spack takes of another's build cache what it may, and builds the rest (1.1.0)."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath

import pytest
import real_spack
import store_servers
from buildcache_samples import Signer, signer
from plan_samples import sample_settings
from spack_samples import build_on_this_machine
from toys import Toys

from slurm_factory.buildcaches.caches import cache_at
from slurm_factory.buildcaches.publishing import Publisher
from slurm_factory.config import Settings
from slurm_factory.recipes.spack.cache import missing_packages
from slurm_factory.recipes.spack.install import PackageState, install
from slurm_factory.recipes.spack.lock import Lock, read_lock
from slurm_factory.recipes.spack.remote import show_indexes, take_remote_packages
from slurm_factory.recipes.spack.session import InstancePaths, Spack
from slurm_factory.recipes.spack.sources import fetch_sources

pytestmark = [
    pytest.mark.spack,
    pytest.mark.skipif(not shutil.which("gpg-agent"), reason="nothing here can sign"),
]

ARCHIVE = "toymain-1.0.tar.gz"
TIMEOUT = 20.0


@dataclass(frozen=True)
class Build:
    """A build of a site: what Spack has decided, and what the user sees."""

    spack: Spack
    lock: Lock
    screen: StringIO
    remote: frozenset[str]

    def fetch(self) -> tuple[Path, ...]:
        """Fetch sources as the recipe does."""
        return fetch_sources(self.spack, self.lock, remote=self.remote)

    def install(self) -> PackageState:
        """Build as the recipe does; returns what became of the package."""
        (state,) = install(self.spack, self.lock, remote=self.remote).states.values()
        assert state.done
        store = Path(self.spack.paths.store)
        assert (store / f"toymain-{state.node.hash[:7]}/lib/data").exists()
        return state

    @property
    def log(self) -> str:
        return (self.spack.logs / "build.log").read_text()

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.screen.getvalue().splitlines() if "Warning" in line]


@dataclass(frozen=True)
class Site:
    """A site that takes packages from another's build cache.

    Attributes:
        toys: Its project; one package, by the other's recipe.
        settings: Its settings.
        published: Directory of the other, with the build caches `signed` and `unsigned`.
        misc: What its Spack keeps of indexes.
    """

    toys: Toys
    settings: Settings
    published: Path
    misc: Path

    @property
    def theirs(self) -> Path:
        """The other's build cache, as this site reaches it."""
        return self.toys.here / "theirs"

    @property
    def upstream(self) -> Path:
        """The source, where its recipe says."""
        return self.published / ARCHIVE

    @property
    def mirror(self) -> Path:
        """A directory of this machine with sources."""
        return self.toys.here / "mirror"

    @contextmanager
    def build(
        self,
        cache: str,
        *,
        signed: bool = True,
        keys: Path | None = None,
        happens: Callable[[Path], None] | None = None,
    ) -> Iterator[Build]:
        """A build that decides by what is in the other's build cache, and trusts these keys."""
        shutil.copytree(self.published / cache, self.theirs)
        settings = self.settings.model_copy(update={"spack_buildcache_keys": keys})
        screen = StringIO()
        with build_on_this_machine(settings, self._paths(), screen) as plain:
            choice = replace(plain.choice, buildcaches=(f"file://{self.theirs}",), signed=signed)
            plan = replace(plain.job.plan, spack=choice)
            spack = replace(plain, job=replace(plain.job, plan=plan))
            self._configure(spack)
            spack.views.mkdir(parents=True)
            caches = Path(spack.paths.caches)
            caches.symlink_to(spack.views)
            show_indexes(spack)
            # As it does for concretization.
            listed = self.toys.run("buildcache", "list")
            assert any("toymain@1.0" in line for line in listed), listed
            if happens:
                happens(self.theirs)
            lock = read_lock((self.toys.project / "spack.lock").read_text())
            wanted = missing_packages(spack, lock, frozenset())
            yield Build(spack, lock, screen, take_remote_packages(spack, lock, wanted).hashes)

    def _paths(self) -> InstancePaths:
        spack = self.toys.spack
        return InstancePaths(
            program=PurePosixPath(spack.program),
            python=PurePosixPath(spack.python),
            project=PurePosixPath(self.toys.project),
            store=PurePosixPath(self.toys.here / "store"),
            packages=PurePosixPath(self.settings.buildcache_dir),
            index=PurePosixPath(self.misc),
            caches=PurePosixPath(self.toys.here / "seen"),
        )

    def _configure(self, spack: Spack) -> None:
        (name,) = spack.choice.remote_buildcaches
        seen = Path(spack.paths.caches) / name
        theirs = f'theirs: {{url: "file://{seen}", source: false, signed: false}}'
        text = (self.toys.project / "spack.yaml").read_text()
        for old, new in (
            (f"{self.toys.spack.cache}/misc", str(self.misc)),
            ("  mirrors::\n", f"  mirrors::\n    {theirs}\n"),
            (f"{self.toys.here}/sources", str(self.settings.source_cache_dir)),
            ("  config:\n", "  bootstrap: {enable: false}\n  config:\n    binary_index_ttl: 0\n"),
        ):
            assert old in text
            text = text.replace(old, new)
        (self.toys.project / "spack.yaml").write_text(text)


@pytest.fixture(scope="module")
def signers() -> Iterator[tuple[Signer, Signer]]:
    with signer("signer") as one, signer("other") as other:
        yield one, other


@pytest.fixture(scope="module")
def published(
    spack: real_spack.Spack,
    tmp_path_factory: pytest.TempPathFactory,
    signers: tuple[Signer, Signer],
) -> Toys:
    """The build caches of somebody else, who has built the package with the same recipe."""
    toys = Toys(spack, tmp_path_factory.mktemp("published"))
    toys.recipe("toymain")
    toys.install(toys.lock())
    for name, key in (("signed", signers[0].name), ("unsigned", "")):
        (toys.here / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GNUPGHOME", str(signers[0].home))
            cache = cache_at(f"file://{toys.here}/{name}", TIMEOUT)
            Publisher(toys.here / "cache", cache, key).publish(read_lock(toys.locked).packages)
    return toys


@pytest.fixture
def site(spack: real_spack.Spack, tmp_path: Path, published: Toys, misc: Path) -> Iterator[Site]:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    settings = sample_settings(tmp_path / "site", source_mirrors=(f"file://{mirror}",))
    toys = Toys(spack, tmp_path, settings.buildcache_dir)
    shutil.copytree(published.packages / "toymain", toys.packages / "toymain")
    shutil.copy(published.project / "spack.lock", toys.project)
    site = Site(toys, settings, published.here, misc)
    archive = site.upstream.read_bytes()
    yield site
    site.upstream.write_bytes(archive)


@pytest.mark.parametrize("cache", ["signed", "unsigned"])
def test_a_package_that_may_be_taken_is_taken_and_its_source_asked_for_nowhere(
    site: Site, signers: tuple[Signer, Signer], cache: str
) -> None:
    site.upstream.unlink()
    signed = cache == "signed"
    with site.build(cache, signed=signed, keys=signers[0].keys if signed else None) as build:
        assert build.fetch() == ()
        assert "Remote build caches had 1 of the packages" in build.log
        state = build.install()
    assert (state.from_cache, state.damaged) == (True, False)
    assert build.warnings == []


def damage(cache: Path) -> None:
    for blob in cache.glob("blobs/sha256/*/*"):
        if blob.read_bytes().startswith(b"\x1f\x8b"):
            blob.write_bytes(b"\x1f\x8b damaged")


def remove(cache: Path) -> None:
    shutil.rmtree(cache / "v3/manifests/spec")


@pytest.mark.parametrize(
    ("cache", "happens", "why"),
    [
        pytest.param("signed", None, "not signed by a trusted key", id="another's signature"),
        pytest.param("unsigned", None, "not signed", id="no signature"),
        pytest.param("signed", damage, "damaged", id="damaged"),
        pytest.param("signed", remove, "", id="gone"),
    ],
)
def test_a_package_that_cannot_be_taken_is_built_from_its_source_at_once(
    site: Site,
    signers: tuple[Signer, Signer],
    cache: str,
    happens: Callable[[Path], None] | None,
    why: str,
) -> None:
    one, other = signers
    site.upstream.rename(site.mirror / ARCHIVE)
    keys = (one if happens else other).keys
    with site.build(cache, keys=keys, happens=happens) as build:
        (source,) = build.fetch()
        assert source.is_file()
        state = build.install()
    assert (state.from_cache, state.damaged) == (False, False)
    assert len(build.warnings) == bool(why)
    assert why in build.screen.getvalue()
    assert "Next attempt in" not in build.screen.getvalue()


# --- Spack itself, anywhere -----------------------------------------------------------------------


@contextmanager
def with_tls(server: store_servers.Server, here: Path) -> Iterator[str]:
    """A second registry for the same storage, with a certificate; gives its name and port."""
    certificate, key = here / "tls.crt", here / "tls.key"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    request += ["ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*request, "-out", str(certificate)], check=True, stderr=subprocess.DEVNULL)
    port = store_servers.free_port()
    text = (server.root.parent / "config.yml").read_text()
    tls = f"127.0.0.1:{port}\n  tls: {{certificate: {certificate}, key: {key}}}"
    (here / "tls.yml").write_text(text.replace(server.host, tls))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(here / "tls.yml")],
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
    )
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(TIMEOUT)


@pytest.mark.parametrize("kind", ["directory", "registry"])
def test_spack_itself_reads_what_is_published(
    published: Toys, tmp_path: Path, misc: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        nodes = read_lock(published.locked).packages
        if kind == "registry":
            # Spack 1.1.0 reads the index of none without TLS.
            ours = stack.enter_context(store_servers.registry(tmp_path / "registry"))
            theirs = stack.enter_context(with_tls(ours, tmp_path))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))
            publish_to, url = (f"oci://{host}/team/cache" for host in (ours.host, theirs))
        else:
            (tmp_path / "shared").mkdir()
            publish_to = url = f"file://{tmp_path}/shared"
        Publisher(published.here / "cache", cache_at(publish_to, TIMEOUT), "").publish(nodes)
        toys = Toys(published.spack, tmp_path, tmp_path / "empty")
        shutil.copytree(published.packages / "toymain", toys.packages / "toymain")
        shutil.copy(published.project / "spack.lock", toys.project)
        text = (toys.project / "spack.yaml").read_text()
        text = text.replace(f"{toys.spack.cache}/misc", str(misc))
        theirs = f'theirs: {{url: "{url}", source: false, signed: false}}'
        text = text.replace("  mirrors::\n", f"  mirrors::\n    {theirs}\n")
        (toys.project / "spack.yaml").write_text(text)
        listed = toys.run("buildcache", "list")
        assert any("toymain@1.0" in line for line in listed), listed
        (published.here / ARCHIVE).rename(published.here / "away")
        try:
            progress, said = toys.install(read_lock(toys.locked))
        finally:
            (published.here / "away").rename(published.here / ARCHIVE)
    (state,) = progress.states.values()
    assert (state.done, state.from_cache) == (True, True), said
