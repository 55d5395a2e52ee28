"""The real Spack takes of another's build cache what it may, and builds the rest (1.1.0)."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath

import pytest
import real_spack
from plan_samples import sample_settings
from spack_samples import build_on_this_machine
from toys import Toys

from slurm_factory.config import Settings
from slurm_factory.recipes.spack.cache import in_remote_caches, save_remote_indexes
from slurm_factory.recipes.spack.install import PackageState, install
from slurm_factory.recipes.spack.lock import Lock, read_lock
from slurm_factory.recipes.spack.project import trust_keys
from slurm_factory.recipes.spack.session import InstancePaths, Spack
from slurm_factory.recipes.spack.sources import fetch_sources

pytestmark = [
    pytest.mark.spack,
    pytest.mark.skipif(not shutil.which("gpg-agent"), reason="nothing here can sign"),
]

ARCHIVE = "toymain-1.0.tar.gz"


@dataclass(frozen=True)
class Somebody:
    """Somebody who signs packages; `home` is their GnuPG's."""

    home: Path

    @property
    def keys(self) -> Path:
        """File with their public key."""
        return self.home / "keys.asc"


@contextmanager
def somebody(name: str) -> Iterator[Somebody]:
    """Somebody with a key, and no agent of theirs afterwards."""
    # GnuPG's sockets need a short path.
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
        key = ["--passphrase", "", "--quick-generate-key", f"{name} <{name}@toys.example>"]
        someone = Somebody(Path(home))
        try:
            subprocess.run([*gpg, *key, "ed25519", "sign", "never"], check=True)
            with someone.keys.open("wb") as file:
                subprocess.run([*gpg, "--armor", "--export"], check=True, stdout=file)
            yield someone
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


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
    def agent(self) -> Path:
        """Socket of an agent of GnuPG, which a base does not have."""
        gnupg = self.spack.environment()["SPACK_GNUPGHOME"]
        asked = ["gpgconf", "--homedir", gnupg, "--list-dirs", "agent-socket"]
        return Path(subprocess.check_output(asked, text=True).strip())

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
        self, cache: str, *, signed: bool = True, keys: Path | None = None
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
            trust_keys(spack)
            # Spack reads the indexes again, as it does for concretization.
            spack.run("buildcache", "list")
            save_remote_indexes(spack)
            lock = read_lock((self.toys.project / "spack.lock").read_text())
            yield Build(spack, lock, screen, in_remote_caches(spack, lock))

    def _paths(self) -> InstancePaths:
        spack = self.toys.spack
        return InstancePaths(
            program=PurePosixPath(spack.program),
            python=PurePosixPath(spack.python),
            project=PurePosixPath(self.toys.project),
            store=PurePosixPath(self.toys.here / "store"),
            packages=PurePosixPath(self.settings.buildcache_dir),
            index=PurePosixPath(self.misc),
        )

    def _configure(self, spack: Spack) -> None:
        signed = str(spack.choice.signed).lower()
        theirs = f'theirs: {{url: "file://{self.theirs}", source: false, signed: {signed}}}'
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
def signers() -> Iterator[tuple[Somebody, Somebody]]:
    with somebody("signer") as signer, somebody("other") as other:
        yield signer, other


@pytest.fixture(scope="module")
def published(
    spack: real_spack.Spack,
    tmp_path_factory: pytest.TempPathFactory,
    signers: tuple[Somebody, Somebody],
) -> Toys:
    """The build caches of somebody else, who has built the package with the same recipe."""
    toys = Toys(spack, tmp_path_factory.mktemp("published"))
    toys.recipe("toymain")
    toys.install(toys.lock())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACK_GNUPGHOME", str(signers[0].home))
        for cache, how in (("signed", "--signed"), ("unsigned", "--unsigned")):
            said = toys.run(
                *("buildcache", "push", how, "--update-index", f"file://{toys.here}/{cache}"),
            )
            assert list((toys.here / cache).glob("v3/manifests/spec/toymain/*")), said
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
    site: Site, signers: tuple[Somebody, Somebody], cache: str
) -> None:
    site.upstream.unlink()
    signed = cache == "signed"
    with site.build(cache, signed=signed, keys=signers[0].keys if signed else None) as build:
        assert build.fetch() == ()
        assert "Remote build caches have 1 of the packages" in build.log
        state = build.install()
    assert (state.from_cache, state.damaged) == (True, False)
    assert build.warnings == []
    assert not build.agent.exists()


def test_without_keys_nothing_of_a_signed_build_cache_spares_a_source(site: Site) -> None:
    with site.build("signed") as build:
        (source,) = build.fetch()
        assert source.read_bytes() == site.upstream.read_bytes()


def damage(cache: Path) -> None:
    for blob in cache.glob("blobs/sha256/*/*"):
        if blob.read_bytes().startswith(b"\x1f\x8b"):
            blob.write_bytes(b"\x1f\x8b damaged")


def remove(cache: Path) -> None:
    shutil.rmtree(cache / "v3/manifests/spec")


@pytest.mark.parametrize(
    ("cache", "happens", "spack_reaches_the_source"),
    [
        pytest.param("signed", None, True, id="another's signature"),
        pytest.param("signed", None, False, id="another's signature, source on this machine"),
        pytest.param("unsigned", None, False, id="no signature, source on this machine"),
        pytest.param("signed", damage, False, id="damaged, source on this machine"),
        pytest.param("signed", remove, True, id="gone"),
    ],
)
def test_a_package_that_cannot_be_taken_is_named_and_built_from_its_source(
    site: Site,
    signers: tuple[Somebody, Somebody],
    cache: str,
    happens: Callable[[Path], None] | None,
    spack_reaches_the_source: bool,
) -> None:
    signer, other = signers
    if not spack_reaches_the_source:
        site.upstream.rename(site.mirror / ARCHIVE)
    with site.build(cache, keys=(signer if happens else other).keys) as build:
        assert build.fetch() == ()
        if happens:
            happens(site.theirs)
        state = build.install()
    assert (state.from_cache, state.damaged) == (False, True)
    assert "toymain@1.0 in a build cache is damaged, gone, or not signed" in build.warnings[0]
    # Spack sees nothing of this machine's directories.
    attempts = 1 if spack_reaches_the_source else 2
    assert build.screen.getvalue().count("Next attempt in") == attempts - 1
