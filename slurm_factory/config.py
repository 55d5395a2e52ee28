"""Settings: `SLURM_FACTORY_…` in the environment, over a TOML file, over defaults."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import AliasChoices, Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from slurm_factory.config_types import (
    AbsolutePath,
    CacheUrls,
    CpuTarget,
    GitRef,
    Glibc,
    HttpUrl,
    HttpUrls,
    Identities,
    KeyName,
    PackageNames,
    ProjectName,
    PublishUrl,
    RemoteName,
    Repositories,
    Repository,
    Size,
    StoreUrl,
    TargetName,
    Uri,
    WholeSize,
    in_words,
)
from slurm_factory.constants import APPLICATION
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.util.hints import did_you_mean, nearest, printable, quoted

ENVIRONMENT_PREFIX = "SLURM_FACTORY_"
TESTS_PREFIX = f"{ENVIRONMENT_PREFIX}TESTS_"
OLD_PROJECT_VARIABLE = "IF_PROJECT_NAME"
OTHER_VARIABLES = {"project_name": (OLD_PROJECT_VARIABLE,)}

# Names of directories below the cache directory, which instances see under the same names.
SOURCE_CACHE = "spack-sourcecache"
BUILDCACHE = "spack-buildcache"
SITE_BUILDCACHES = "spack-buildcache-site"
SPACK_INDEX = "spack-misc"


def settings_file() -> Path:
    """Path (host) of the settings file at the platform's config path; it need not exist."""
    return platformdirs.user_config_path(APPLICATION) / "config.toml"


class Settings(BaseSettings):
    """Settings of this machine or site, as opposed to those of one build."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_by_name=True,
    )

    project_name: ProjectName = Field(
        default="slurm-factory",
        # Not the bare name: as an alias it would be read from the environment as well.
        validation_alias=AliasChoices(f"{ENVIRONMENT_PREFIX}PROJECT_NAME", OLD_PROJECT_VARIABLE),
        description="LXD project that holds all instances and images.",
    )
    cache_dir: AbsolutePath = Field(
        default=Path("~/.slurm-factory"),
        description="Directory of caches, logs and finished builds.",
    )
    cpu_limit: int | None = Field(
        default=None, ge=1, description="CPUs an instance may use; unset: all."
    )
    memory_limit: WholeSize | None = Field(
        default=None, description="Memory an instance may use, such as 8GiB; unset: all."
    )
    process_limit: int = Field(
        default=10_000, ge=100, description="Processes an instance may have at once."
    )
    ccache_size: Size = Field(
        default="5GB", description="Size limit of the compiler cache of each set of sources."
    )
    events_file: AbsolutePath | None = Field(
        default=None,
        description="Existing file that also gets the events of a command, for a program that"
        " watches it.",
    )
    matrix_cells: int | None = Field(
        default=None,
        ge=1,
        description="Builds that `matrix` runs at once; unset: by the CPUs, memory and disk below.",
    )
    matrix_cores: int | None = Field(
        default=None, ge=1, description="CPUs for all builds of `matrix`; unset: all."
    )
    matrix_memory: WholeSize | None = Field(
        default=None, description="Memory for all builds of `matrix`; unset: what is available."
    )
    matrix_disk: WholeSize | None = Field(
        default=None,
        description="Space in the cache directory for all builds of `matrix`; unset: what is free.",
    )
    matrix_cell_limit: float = Field(
        default=6 * 3600.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which `matrix` ends a build that hangs.",
    )
    source_mirrors: HttpUrls = Field(
        default=(),
        description=(
            "URLs to try before upstream's, each a directory of source archives by file name, or"
            " a Spack source mirror; in the environment separated by spaces or commas."
        ),
    )
    refuse_vulnerable: bool = Field(
        default=False, description="As --strict: refuse releases with known advisories."
    )
    debian_tracker: Repository = Field(
        default="https://security-tracker.debian.org/tracker/data/json",
        description="Data of Debian's security tracker for `show --libraries`: a URL or a path.",
    )
    slurm_url: Repository = Field(
        default="https://github.com/SchedMD/slurm",
        description="Repository that `versions --update` asks for new releases of Slurm.",
    )
    catalogues: Repositories = Field(
        default=(),
        description=(
            "Further catalogs of releases, paths or URLs, later ones win; in the environment"
            " separated by spaces or commas."
        ),
    )
    store: StoreUrl | None = Field(
        default=None,
        description="URL of the store for `publish` and `fetch` where none is named.",
    )
    debian_mirror: HttpUrl | None = Field(
        default=None, description="Debian mirror; unset: this machine's own, else deb.debian.org."
    )
    ubuntu_mirror: HttpUrl | None = Field(
        default=None,
        description="Ubuntu mirror; unset: this machine's own, else archive.ubuntu.com.",
    )
    ubuntu_ports_mirror: HttpUrl | None = Field(
        default=None,
        description="Mirror of Ubuntu for other architectures than x86_64; unset: this machine's"
        " own, else ports.ubuntu.com.",
    )
    image_server: bool = Field(
        default=True,
        description="Ask LXD's image servers first; false: always make images with mmdebstrap.",
    )
    remote: RemoteName | None = Field(
        default=None,
        description="Remote of lxc whose LXD builds, a server or a cluster; unset: this machine's.",
    )
    target: TargetName | None = Field(
        default=None,
        description="Member of that cluster, or @GROUP of members; unset: LXD chooses.",
    )
    remote_shared_dir: AbsolutePath | None = Field(
        default=None,
        description="Directory in which members see the cache directory of this machine; unset:"
        " instances there get sources as a stream.",
    )
    ca_certificates: AbsolutePath = Field(
        default=Path("/usr/local/share/ca-certificates"),
        description="Directory of additional CA certificates (*.crt) for instances.",
    )
    download_timeout: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without data after which a download is retried.",
    )
    spack_url: Repository = Field(
        default="https://github.com/spack/spack.git",
        description="Source of Spack: URL of a git repository, or a directory.",
    )
    spack_ref: GitRef = Field(
        default="0c2be44e4ece21eb091ad5de4c97716b7c6d4c87",
        description="Tag, branch or commit of Spack to use; the default is v1.1.0.",
    )
    spack_packages_url: Repository = Field(
        default="https://github.com/spack/spack-packages.git",
        description="Source of Spack's package recipes: URL of a git repository, or a directory.",
    )
    spack_packages_ref: GitRef = Field(
        default="d4f7c711a6a42f1c4d551c8fd10fce9a11340a81",
        description=(
            "Tag, branch or commit of the package recipes to use; the default is v2026.06.0."
        ),
    )
    glibc: Glibc | None = Field(
        default=None,
        description=(
            "Release of glibc that packages of the Spack recipe need at most, or base for that of"
            " the base; unset: 2.28."
        ),
    )
    spack_target: CpuTarget | None = Field(
        default=None,
        description=(
            "CPU to compile for with Spack, by its archspec name; unset: x86_64_v2, or the"
            " generic CPU of other architectures."
        ),
    )
    spack_config: AbsolutePath | None = Field(
        default=None,
        description="YAML file with additional Spack configuration.",
    )
    spack_base_packages: PackageNames = Field(
        default=(),
        description=(
            "Additional packages in the base, for externals in that file; in the environment"
            " separated by spaces or commas."
        ),
    )
    spack_buildcaches: CacheUrls = Field(
        default=(),
        description=(
            "URLs of remote build caches to take binary packages of Spack from: https://, file://,"
            " s3:// or oci://; in the environment separated by spaces or commas."
        ),
    )
    spack_buildcache_publish: PublishUrl | None = Field(
        default=None,
        description=(
            "URL of a build cache that gets the packages of each successful build with Spack:"
            " file://, s3:// or oci://."
        ),
    )
    spack_buildcache_keys: AbsolutePath | None = Field(
        default=None,
        description=("File with trusted public keys (GnuPG) for packages from those build caches."),
    )
    spack_unsigned_buildcaches: bool = Field(
        default=False,
        description="Also use packages without a trusted signature from those build caches.",
    )
    builder_id: Uri | None = Field(
        default=None,
        description="URI of who builds here, for the provenance of packages; unset: the workflow in"
        " GitHub Actions, else a machine of a user's.",
    )
    sign_key: KeyName | None = Field(
        default=None,
        description="As --sign: sign packages with this key of the keyring (GnuPG), and what is"
        " published to a build cache.",
    )
    trusted_keys: AbsolutePath | None = Field(
        default=None,
        description="File with public keys (GnuPG) whose signatures of packages count, or a"
        " directory of such files.",
    )
    trusted_identities: Identities = Field(
        default=(),
        description="Repositories on GitHub whose attestations count, such as"
        " https://github.com/OWNER/REPOSITORY, alone or with"
        " /.github/workflows/FILE@refs/tags/TAG; in the environment separated by spaces or commas.",
    )
    sigstore_root: AbsolutePath | None = Field(
        default=None,
        description="File trusted_root.json with the keys of another Sigstore; unset: those of the"
        " public one.",
    )
    require_signature: bool = Field(
        default=False, description="Refuse packages without a signature that counts."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line takes precedence over the environment, and the environment over the
        file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, cls._file_source(settings_cls)

    @classmethod
    def _file_source(cls, settings_cls: type[BaseSettings]) -> PydanticBaseSettingsSource:
        file = TomlConfigSettingsSource(settings_cls, toml_file=settings_file())
        # Checked here, because the names of variables would pass as keys.
        for refusal in _unknown_keys(file.toml_data):
            raise refusal
        return file

    _finished: Path | None = PrivateAttr(default=None)
    _results: Path | None = PrivateAttr(default=None)

    def apart(self, directory: Path, *, caches: bool) -> Settings:
        """The same settings for a build that replaces nothing.

        Args:
            directory: Directory (host) below the cache directory for its finished files.
            caches: Whether it takes what earlier builds have compiled, found out and decided.
                Otherwise this directory has caches of its own. Sources and bases are shared always.
        """
        copy = self.model_copy(update={"spack_buildcache_publish": None})
        results = None if caches else directory
        copy._finished, copy._results = directory, results  # noqa: SLF001  # of this class
        return copy

    @property
    def results_dir(self) -> Path:
        """Directory of what builds have compiled, found out and decided (host)."""
        return self._results or self.cache_dir

    @property
    def on_this_machine(self) -> Settings:
        """The same for what uses the LXD of this machine."""
        return self.model_copy(update={"remote": None, "target": None})

    @property
    def lxd_place(self) -> str:
        """The LXD project, with the remote where there is one: whose instances a lock is about."""
        return f"{self.remote}:{self.project_name}" if self.remote else self.project_name

    @property
    def own_catalog(self) -> Path:
        """Releases that `versions --update` has found (host)."""
        return self.cache_dir / "releases.json"

    @property
    def builds_dir(self) -> Path:
        """Finished artifacts (host)."""
        return (self._finished or self.cache_dir) / "builds"

    @property
    def source_cache_dir(self) -> Path:
        """Source archives by checksum, in the layout of a Spack mirror (host)."""
        return self.cache_dir / SOURCE_CACHE

    @property
    def buildcache_dir(self) -> Path:
        """Spack's binary packages (host)."""
        return self.results_dir / BUILDCACHE

    @property
    def site_buildcaches_dir(self) -> Path:
        """Spack's binary packages by other recipes than the default ones, a directory for each
        set of recipes (host)."""
        return self.results_dir / SITE_BUILDCACHES

    @property
    def remote_buildcaches_dir(self) -> Path:
        """What was fetched from remote build caches, a directory for each; no instance sees it
        (host)."""
        return self.cache_dir / "spack-buildcache-remote"

    @property
    def spack_checkouts_dir(self) -> Path:
        """Archives of Spack and of its recipes (host)."""
        return self.cache_dir / "spack-checkouts"

    @property
    def spack_misc_dir(self) -> Path:
        """License texts (host)."""
        return self.cache_dir / SPACK_INDEX

    @property
    def spack_locks_dir(self) -> Path:
        """Locks of earlier plans (host)."""
        return self.results_dir / "spack-locks"

    @property
    def copies_dir(self) -> Path:
        """Copies of catalogs and trackers from URLs (host)."""
        return self.cache_dir / "copies"

    @property
    def ccache_dir(self) -> Path:
        """Compiler cache (host)."""
        return self.results_dir / "ccache"

    @property
    def configure_dir(self) -> Path:
        """Results of configure, by their inputs (host)."""
        return self.results_dir / "configure"

    @property
    def images_dir(self) -> Path:
        """Base images made here and the records of what each base contains (host)."""
        return self.cache_dir / "images"

    @property
    def remotes_dir(self) -> Path:
        """Addresses of the members of remotes (host)."""
        return self.cache_dir / "remotes"

    @property
    def logs_dir(self) -> Path:
        """One directory per build (host)."""
        return self.cache_dir / "logs"

    @property
    def work_dir(self) -> Path:
        """Staged files of builds in progress; on the file system of the finished ones, so that a
        rename publishes (host)."""
        return self.cache_dir / "work"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory below the cache directory (host)."""
        return (
            *(*self.cache_dirs, self.builds_dir, self.images_dir, self.logs_dir, self.work_dir),
            self.remotes_dir,
        )

    @property
    def cache_dirs(self) -> tuple[Path, ...]:
        """Those that are only caches: their content can be made or fetched again."""
        return (
            *(self.ccache_dir, self.configure_dir, self.source_cache_dir, self.buildcache_dir),
            *(self.site_buildcaches_dir, self.remote_buildcaches_dir, self.spack_checkouts_dir),
            *(self.spack_misc_dir, self.spack_locks_dir, self.copies_dir),
        )


def load_settings(**overrides: Any) -> Settings:
    """Settings from the command line (`overrides`; None means not given), environment and file.

    Raises:
        ConfigurationError: A value or a key is wrong, a file or directory is missing, or the
            settings file is not TOML.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        with _settings_file_errors():
            settings = Settings(**given)
    except ValidationError as error:
        raise next(_refusals(error, given))[1] from error
    for _, refusal in _missing(settings, given):
        raise refusal
    return settings


@dataclass(frozen=True)
class Effective:
    """A setting as it is in effect.

    Attributes:
        name: Its name.
        value: Its value; a wrong one as it was given, shortened.
        source: What it comes from: `command line`, `environment`, `file` or `default`.
        where: The option, the variable or the path of the file (host); empty for defaults.
        problem: What is wrong with it.
    """

    name: str
    value: Any
    source: str
    where: str
    problem: ConfigurationError | None = None


@dataclass(frozen=True)
class EffectiveSettings:
    """All settings, or some; what is wrong with others of the file is in `unknown`."""

    settings: tuple[Effective, ...]
    unknown: tuple[ConfigurationError, ...]

    @property
    def problems(self) -> tuple[ConfigurationError, ...]:
        """All that would stop every other command."""
        return (*self.unknown, *(each.problem for each in self.settings if each.problem))


class _KnownSettings(Settings):
    """Ignores what is in the file under unknown keys."""

    @classmethod
    def _file_source(cls, settings_cls: type[BaseSettings]) -> PydanticBaseSettingsSource:
        keys = _settings_file_content().items()
        known = {key: value for key, value in keys if key in Settings.model_fields}
        return InitSettingsSource(settings_cls, known)


def effective_settings(*, only: Sequence[str] = (), **overrides: Any) -> EffectiveSettings:
    """Every setting with its origin, also where some are wrong.

    Args:
        only: Names of settings or of their variables in the environment; none: all.
        overrides: From the command line; None means not given.

    Raises:
        ConfigurationError: The settings file cannot be read or is not TOML, or `only` names no
            setting.
    """
    keys = [_asked(name) for name in only] or list(Settings.model_fields)
    given = {key: value for key, value in overrides.items() if value is not None}
    wrong: dict[str, tuple[Any, ConfigurationError]] = {}
    with _settings_file_errors():
        unknown = tuple(_unknown_keys(_settings_file_content()))
        try:
            settings: Settings = _KnownSettings(**given)
        except ValidationError as error:
            values = {
                _key(str(each["loc"][0])): _given(each.get("input"))
                for each in reversed(error.errors())
            }
            wrong = {key: (values[key], refusal) for key, refusal in _refusals(error, given)}
            defaults = {key: Settings.model_fields[key].default for key in wrong}
            settings = _KnownSettings(**given | defaults)
    wrong |= {key: (getattr(settings, key), refusal) for key, refusal in _missing(settings, given)}
    found = []
    for key in dict.fromkeys(keys):
        value, problem = wrong.get(key, (getattr(settings, key), None))
        is_set = key in settings.model_fields_set
        source, where = _source(key, given) if is_set else ("default", "")
        found.append(Effective(key, value, source, where, problem))
    return EffectiveSettings(tuple(found), () if only else unknown)


def _given(value: object) -> object:
    """A wrong value, of any size and kind, for display."""
    if isinstance(value, str):
        return printable(value)
    return value if isinstance(value, bool | int | float | None) else quoted(value)


def _asked(name: str) -> str:
    """The setting that somebody names, by itself or by its variable."""
    key = _key(name.upper() if name.isupper() else f"{ENVIRONMENT_PREFIX}{name.upper()}")
    if key not in Settings.model_fields:
        raise ConfigurationError(
            f"There is no setting {quoted(name)}.",
            details=did_you_mean(key, Settings.model_fields, "Its name is unknown."),
            resolution="`slurm-factory settings` shows all of them.",
        )
    return key


@contextmanager
def _settings_file_errors() -> Iterator[None]:
    """Tell what reading the settings file may fail with as our errors.

    Raises:
        ConfigurationError: It cannot be read, or is not TOML.
    """
    try:
        if settings_file().is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The settings file {settings_file()} is not valid TOML.",
            details=str(error),
            resolution="Correct that line, or move the file away.",
        ) from error
    except RecursionError as error:
        raise ConfigurationError(
            f"The settings file {settings_file()} cannot be used.",
            details="Its lists or tables are nested too deeply.",
            resolution="Correct it, or move the file away.",
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"The settings file {settings_file()} cannot be read.",
            details=f"{error.strerror or error}.",
            resolution="Correct its permissions, or move it away.",
        ) from error


def _settings_file_content() -> dict[str, Any]:
    return TomlConfigSettingsSource(Settings, toml_file=settings_file()).toml_data


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings but are not: printable name → nearest one, or empty."""
    keys = {
        name: name.upper().removeprefix(ENVIRONMENT_PREFIX).lower()
        for name in sorted(environ)
        if name.upper().startswith(ENVIRONMENT_PREFIX) and not name.startswith(TESTS_PREFIX)
    }
    return {
        printable(name): f"{ENVIRONMENT_PREFIX}{near.upper()}"
        if (near := nearest(key, Settings.model_fields))
        else ""
        for name, key in keys.items()
        if key not in Settings.model_fields
    }


def _unknown_keys(file: Mapping[str, Any]) -> Iterator[ConfigurationError]:
    free = Settings.model_fields.keys() - file.keys()
    for key in file:
        if key not in Settings.model_fields:
            yield ConfigurationError(
                f"There is no setting {printable(key)} (in {settings_file()}).",
                details=did_you_mean(
                    key.upper().removeprefix(ENVIRONMENT_PREFIX),
                    sorted(free),
                    "Its name is unknown.",
                ),
                resolution="`slurm-factory settings` shows all of them.",
            )


def _refusals(
    error: ValidationError, given: Mapping[str, Any]
) -> Iterator[tuple[str, ConfigurationError]]:
    """What is wrong with each setting; with a list, what is wrong with its first wrong entry."""
    seen = set()
    for number, each in enumerate(error.errors()):
        key = _key(str(each["loc"][0]))
        if key not in seen:
            seen.add(key)
            yield key, _refusal(key, each.get("input"), in_words(error, number), given)


def _key(name: str) -> str:
    """The setting with this name, or with this variable in the environment."""
    key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    return next((key for key, others in OTHER_VARIABLES.items() if name in others), key)


def _refusal(key: str, value: object, why: str, given: Mapping[str, Any]) -> ConfigurationError:
    return ConfigurationError(
        f"The setting {key} is not valid: {quoted(value)}.",
        details=f"{why} ({Settings.model_fields[key].description})",
        resolution=f"Correct {_origin(key, given)}.",
    )


def _origin(key: str, given: Mapping[str, Any]) -> str:
    """The origin of a setting's value, for a sentence."""
    source, where = _source(key, given)
    return f"{key} in {where}" if source == "file" else where


def _source(key: str, given: Mapping[str, Any]) -> tuple[str, str]:
    """What a setting that is set comes from: the kind, and the option, variable or file."""
    if key in given:
        return "command line", f"--{key.replace('_', '-')}"
    variables = (f"{ENVIRONMENT_PREFIX}{key.upper()}", *OTHER_VARIABLES.get(key, ()))
    values = {name.upper(): name for name, value in os.environ.items() if value}
    found = next((values[name] for name in variables if name in values), None)
    return ("environment", found) if found else ("file", str(settings_file()))


def _missing(
    settings: Settings, given: Mapping[str, Any]
) -> Iterator[tuple[str, ConfigurationError]]:
    """A path that a user has set must exist; a default need not."""
    for key, is_right, kind in (
        ("ca_certificates", stat.S_ISDIR, "a directory"),
        ("spack_buildcache_keys", stat.S_ISREG, "a file"),
        ("sigstore_root", stat.S_ISREG, "a file"),
        ("trusted_keys", lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode), "a file"),
    ):
        path: Path | None = getattr(settings, key)
        if path is None or key not in settings.model_fields_set:
            continue
        try:
            why = "" if is_right(path.stat().st_mode) else f"It is not {kind}."
        except OSError as error:
            why = f"{error.strerror or error}."
        if why:
            yield key, _refusal(key, str(path), why, given)
