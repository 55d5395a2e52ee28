"""The mirrors of its distribution that this machine is configured to use."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

Distribution = Literal["debian", "ubuntu"]

ETC_APT: Final = Path("/etc/apt")
DEBIAN_ARCHIVE: Final = "https://deb.debian.org/debian"
DEBIAN_SECURITY: Final = "https://deb.debian.org/debian-security"
SNAPSHOT: Final = "https://snapshot.debian.org/archive/debian-security"
"""Keeps what the archive itself replaces by a later revision."""

_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)"
)
_MIRROR_LIST = re.compile(r"^mirror\+file:(?://)?(?P<path>/.*)$")
_PERSONAL_ARCHIVE = re.compile(r"^https?://(?:[^/@]*@)?(?:private-)?ppa\.")


@dataclass(frozen=True)
class _Entry:
    """One repository of apt's configuration."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str

    @property
    def holds_security_archive(self) -> bool:
        """Whether this is Debian's security archive or a mirror of it."""
        if "main" not in self.components or not any(map(_is_security, self.suites)):
            return False
        return "debian" in self.signed_by or any("debian" in uri for uri in self.uris)

    def holds_archive_of(self, distribution: Distribution) -> bool:
        """Whether this is the distribution's own archive or a full mirror of it.

        Security archives and flat or personal repositories are not. A key other than the
        distribution's marks a third-party repository.
        """
        if "main" not in self.components or not any(map(_is_release, self.suites)):
            return False
        if self.signed_by:
            return f"{distribution}-archive-" in self.signed_by
        return any(distribution in uri and not _PERSONAL_ARCHIVE.match(uri) for uri in self.uris)


def configured_mirrors(etc_apt: Path, distribution: Distribution) -> tuple[str, ...]:
    """Mirrors of a distribution that apt is configured to use, in apt's order.

    Reads `sources.list`, `sources.list.d/*.list` (one-line style), `*.sources` (deb822 style) and
    the files that `mirror+file:` names, as sources.list(5) and apt-transport-mirror(1) describe.
    Disabled entries, `deb-src`, cdroms, security archives and third-party repositories are left
    out. Invalid lines and unreadable files are skipped: apt itself reports them.

    Args:
        etc_apt: apt's configuration directory (host), normally `/etc/apt`.
        distribution: The distribution.

    Returns:
        Base URLs without a trailing slash (`https://host/debian`), without duplicates; empty if
        this machine runs another distribution.
    """
    entries = (_with_mirror_lists_read(entry, etc_apt) for entry in _entries(etc_apt))
    usable = (
        _normalized(uri)
        for entry in entries
        if entry.holds_archive_of(distribution)
        for uri in entry.uris
    )
    return tuple(dict.fromkeys(uri for uri in usable if uri))


def debian_security_urls(
    pool_path: str, uploaded: str, mirror: str | None, etc_apt: Path
) -> tuple[str, ...]:
    """URLs of a file in the pool of Debian's security archive.

    Args:
        pool_path: Path below a mirror, such as `pool/updates/main/s/slurm-wlm/….debian.tar.xz`.
        uploaded: A date after its upload, as YYYY-MM-DD.
        mirror: The Debian mirror of this site, if set: its security archive is beside it, with
            `-security` behind its name.
        etc_apt: apt's configuration directory (host).

    Returns:
        The mirror, those of apt, deb.debian.org, and snapshot.debian.org, which alone keeps a file
        when a later revision has replaced it.
    """
    entries = (_with_mirror_lists_read(entry, etc_apt) for entry in _entries(etc_apt))
    configured = [
        _normalized(uri) for entry in entries if entry.holds_security_archive for uri in entry.uris
    ]
    near = [f"{mirror.rstrip('/')}-security"] if mirror else [uri for uri in configured if uri]
    bases = dict.fromkeys(_without_scheme_twins([*near, DEBIAN_SECURITY]))
    kept = f"{SNAPSHOT}/{uploaded.replace('-', '')}T000000Z"
    return tuple(f"{base}/{pool_path}" for base in (*bases, kept))


def debian_pool_urls(pool_path: str, mirrors: Iterable[str]) -> tuple[str, ...]:
    """URLs of a file in the pool of the Debian archive.

    Args:
        pool_path: Path below a mirror, such as `pool/main/s/slurm-wlm/….orig.tar.gz`.
        mirrors: Base URLs of Debian mirrors, the preferred one first.

    Returns:
        One URL per mirror; the last one is deb.debian.org's, which carries every current release.
    """
    bases = dict.fromkeys(_without_scheme_twins([*mirrors, DEBIAN_ARCHIVE]))
    return tuple(f"{base}/{pool_path.lstrip('/')}" for base in bases)


def _without_scheme_twins(mirrors: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for mirror in (mirror.rstrip("/") for mirror in mirrors):
        place = mirror.removeprefix("https://").removeprefix("http://")
        if place not in seen:
            seen.add(place)
            yield mirror


def _entries(etc_apt: Path) -> Iterator[_Entry]:
    parts = etc_apt / "sources.list.d"
    for file in (etc_apt / "sources.list", *sorted(parts.glob("*.list"))):
        yield from _one_line_entries(_text(file))
    for file in sorted(parts.glob("*.sources")):
        yield from _deb822_entries(_text(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _one_line_entries(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match:
            yield _Entry(
                uris=(match["uri"],),
                suites=(match["suite"],),
                components=tuple(match["components"].split()),
                signed_by=_option(match["options"] or "", "signed-by"),
            )


def _option(options: str, name: str) -> str:
    pairs = (option.partition("=") for option in options.split())
    return next((value for key, _, value in pairs if key.lower() == name), "")


def _deb822_entries(text: str) -> Iterator[_Entry]:
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text.replace("\r\n", "\n")):
        fields = _fields(stanza)
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0", "off"}
        if enabled and "deb" in fields.get("types", "").split():
            yield _Entry(
                uris=tuple(fields.get("uris", "").split()),
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", ""),
            )


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and name:
            fields[name] += f" {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _is_release(suite: str) -> bool:
    """Whether a suite is a whole release (`bookworm`), not a pocket (`bookworm-security`,
    `buster/updates`) and not a flat repository (`./`)."""
    return suite.isalnum()


def _is_security(suite: str) -> bool:
    """Whether a suite is the security pocket of a release: `bookworm-security`,
    `buster/updates`."""
    return suite.endswith(("-security", "/updates"))


def _with_mirror_lists_read(entry: _Entry, etc_apt: Path) -> _Entry:
    uris = (uri for configured in entry.uris for uri in _expanded(configured, etc_apt))
    return replace(entry, uris=tuple(uris))


def _expanded(uri: str, etc_apt: Path) -> Iterator[str]:
    match = _MIRROR_LIST.match(uri)
    if not match:
        yield uri
        return
    path = Path(match["path"])
    if path.is_relative_to("/etc/apt"):
        path = etc_apt / path.relative_to("/etc/apt")
    for line in _text(path).splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words[0]


def _normalized(uri: str) -> str:
    """The URL in a form that every client supports; empty if only apt supports it."""
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    scheme, _, path = uri.partition(":")
    if scheme in {"file", "copy"} and path.startswith("/"):
        return f"file:///{path.strip('/')}"
    return ""
