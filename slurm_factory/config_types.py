"""Types of settings, with the messages for invalid values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationError
from pydantic_settings import NoDecode

from slurm_factory.util.hints import quoted

SIZE_IN_WORDS = "A size is a number and kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 8GiB"
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
"""Bytes of each unit (LXD's doc/reference/instance_units.md)."""
SIZE = re.compile(r"([1-9][0-9]{0,9})(\.[0-9]{1,9})?(kB|MB|GB|TB|KiB|MiB|GiB|TiB)", re.ASCII)
SHORT_SIZE = re.compile(
    r"([1-9][0-9]{0,9}(?:\.[0-9]{1,9})?)\s*([kmgt])i?b?", re.IGNORECASE | re.ASCII
)
LARGEST_SIZE = (1 << 63) - 1
"""LXD counts bytes in 64 bits (shared/units/units.go, ParseByteSizeString)."""
PROJECT_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,62}")
REMOTE_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}", re.ASCII)
TARGET_NAME = re.compile(r"@?[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}", re.ASCII)
AFTER_SCHEME = r"://[^\s'\"`$;|&<>\\]+"
URL = re.compile(rf"(https?|file){AFTER_SCHEME}")
IDENTITY = re.compile(
    r"https://github\.com/[\w.-]+/[\w.-]+(/\.github/workflows/[\w.-]+@refs/[\w./-]+)?", re.ASCII
)
"""A repository, or a workflow of one at a ref."""
URI = re.compile(r"[a-z][a-z0-9+.-]{1,20}:[!-~]{1,500}")
"""As in RFC 3986, in short."""
CACHE_URL = re.compile(rf"(https?|file|s3|oci|oci\+http){AFTER_SCHEME}")
PUBLISH_URL = re.compile(rf"(file|s3|oci|oci\+http){AFTER_SCHEME}")
STORE_URL = re.compile(rf"(https?|file|s3|oci){AFTER_SCHEME}")
KEY_NAME = re.compile(r"[^\s\-\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,199}")
URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
GIT_REF = re.compile(r"(?!.*(\.\.|//|\.lock$))[A-Za-z0-9][A-Za-z0-9._+/-]{0,199}(?<![./])")
"""Names that git-check-ref-format(1) allows, without characters that are special to shells or
file names."""
CPU_TARGET = re.compile(r"[a-z][a-z0-9_]{0,63}")
GLIBC = re.compile(r"base|2\.[0-9]{2}", re.ASCII)
"""How archspec names processors (github.com/archspec/archspec-json, microarchitectures.json)."""
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""Debian Policy Manual, section 5.6.1."""


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError(expected)
        return value

    return check


def _size(value: str) -> str:
    match, short = SIZE.fullmatch(value), SHORT_SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"Write {short[1]}{short[2].upper()}iB." if short else f"{SIZE_IN_WORDS}.")
    if float(match[1]) * UNITS[match[3]] > LARGEST_SIZE:
        raise ValueError("It is larger than the memory of any machine.")
    return value


def _whole_size(value: str) -> str:
    """LXD reads a whole number and a unit, and treats a decimal point as part of the unit."""
    short = SHORT_SIZE.fullmatch(value)
    written = value
    if SIZE.fullmatch(value) is None and short:
        written = f"{short[1]}{short[2].upper()}iB"
    match = SIZE.fullmatch(written)
    if match is None or not match[2]:
        return _size(value)
    size = max(1, round(float(f"{match[1]}{match[2]}") * UNITS[match[3]]))
    units = [unit for unit in UNITS if unit.endswith("iB") == match[3].endswith("iB")]
    smaller = units[max(0, units.index(match[3]) - 1)]
    raise ValueError(f"LXD takes whole numbers only: write {-(-size // UNITS[smaller])}{smaller}.")


def _size_and_unit(value: object) -> object:
    """TOML, unlike the environment, has numbers that are not strings."""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004  # pydantic takes no TypeError
            f"{SIZE_IN_WORDS}; in the file, put it in quotation marks."
        )
    return value


def _words(value: object) -> object:
    """A list as in an environment variable, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                "Not a valid JSON list; separate the entries with spaces instead."
            ) from error
        except RecursionError as error:
            raise ValueError("Its lists are nested too deeply.") from error
    return [word for word in re.split(r"[\s,]+", value) if word]


def absolute(path: Path) -> Path:
    """`path` with the home for a tilde, from the root.

    Raises:
        ValueError: It contains a control character, or the home of an unknown user.
    """
    if URL_AS_PATH.match(str(path)):
        raise ValueError("It must be the path of a file or directory, not a URL.")
    if CONTROL_CHARACTER.search(str(path)):
        raise ValueError("The path must not contain a line break or another control character.")
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{quoted(str(path))}: unknown home directory") from error


def _repository(value: str) -> str:
    """A URL, or a directory of this machine from its root."""
    if value.startswith(("/", "~")):
        return str(absolute(Path(value)))
    if URL.fullmatch(value) is None:
        raise ValueError(
            "A repository is a URL that begins with http://, https:// or file:// and has no"
            " special characters, or an absolute path of a directory."
        )
    return value


Size = Annotated[str, BeforeValidator(_size_and_unit), AfterValidator(_size)]
WholeSize = Annotated[str, BeforeValidator(_size_and_unit), AfterValidator(_whole_size)]
AbsolutePath = Annotated[Path, AfterValidator(absolute)]
ProjectName = Annotated[
    str,
    AfterValidator(
        _matching(
            PROJECT_NAME,
            "A project name is a letter followed by up to 62 letters, digits and dashes.",
        )
    ),
]
RemoteName = Annotated[
    str,
    AfterValidator(
        _matching(
            REMOTE_NAME,
            "It is the name of a remote without its colon; `lxc remote list` shows them.",
        )
    ),
]
TargetName = Annotated[
    str,
    AfterValidator(
        _matching(TARGET_NAME, "It is the name of a member, or @ and the name of a group of them.")
    ),
]
HttpUrl = Annotated[
    str,
    AfterValidator(
        _matching(
            URL, "A URL begins with http://, https:// or file:// and has no special characters."
        )
    ),
]
StoreUrl = Annotated[
    str,
    AfterValidator(
        _matching(
            STORE_URL,
            "The URL of a store begins with file://, http://, https://, s3:// or oci:// and has no"
            " special characters.",
        )
    ),
]
CacheUrl = Annotated[
    str,
    AfterValidator(
        _matching(
            CACHE_URL,
            "The URL of a build cache begins with https://, file://, s3:// or oci:// and has no"
            " special characters.",
        )
    ),
]
PublishUrl = Annotated[
    str,
    AfterValidator(
        _matching(
            PUBLISH_URL,
            "The URL begins with file://, s3:// or oci:// and has no special characters.",
        )
    ),
]
Repository = Annotated[str, AfterValidator(_repository)]
KeyName = Annotated[
    str,
    AfterValidator(
        _matching(
            KEY_NAME,
            "It names a key of the keyring, best by its fingerprint, and does not begin with -.",
        )
    ),
]
Identity = Annotated[
    str,
    AfterValidator(
        _matching(
            IDENTITY,
            "It is https://github.com/OWNER/REPOSITORY, alone or with"
            " /.github/workflows/FILE@refs/tags/TAG.",
        )
    ),
]
Uri = Annotated[
    str,
    AfterValidator(
        _matching(URI, "A URI has a scheme and no spaces, such as https://ci.example.org/slurm.")
    ),
]
GitRef = Annotated[
    str,
    AfterValidator(
        _matching(GIT_REF, "A ref is the name of a tag or a branch, or a commit, such as v1.1.0.")
    ),
]
CpuTarget = Annotated[
    str,
    AfterValidator(
        _matching(
            CPU_TARGET,
            "A target consists of lower-case letters, digits and _, such as x86_64_v3 or zen4.",
        )
    ),
]
Glibc = Annotated[
    str,
    AfterValidator(_matching(GLIBC, "It is a release of glibc, such as 2.28, or base.")),
]
PackageName = Annotated[
    str,
    AfterValidator(
        _matching(
            PACKAGE_NAME, "A package name consists of lower-case letters, digits, +, . and -."
        )
    ),
]

# NoDecode: pydantic-settings would read lists from the environment as JSON only.
HttpUrls = Annotated[tuple[HttpUrl, ...], NoDecode, BeforeValidator(_words)]
Repositories = Annotated[tuple[Repository, ...], NoDecode, BeforeValidator(_words)]
Identities = Annotated[tuple[Identity, ...], NoDecode, BeforeValidator(_words)]
CacheUrls = Annotated[tuple[CacheUrl, ...], NoDecode, BeforeValidator(_words)]
PackageNames = Annotated[tuple[PackageName, ...], NoDecode, BeforeValidator(_words)]

WORDS = {
    "bool": "Write true or false.",
    "float": "It must be a number.",
    "finite": "It must not be nan or inf.",
    "greater_than": "It must be more than {gt:g}.",
    "greater_than_equal": "It must be {ge} or more.",
    "int": "It must be a whole number.",
    "path": "It must be the path of a file or directory, in quotation marks.",
    "string": "It must be a text in quotation marks.",
    "tuple": "It must be a list with each entry in quotation marks.",
}
"""By pydantic's kind of error, or how that begins (docs.pydantic.dev, "Validation Errors")."""


def in_words(errors: ValidationError, number: int = 0) -> str:
    """The message for an invalid value, by default the first one."""
    error = errors.errors()[number]
    kind = error["type"]
    words = WORDS.get(kind) or WORDS.get(kind.partition("_")[0])
    if words is None:
        return error["msg"].removeprefix("Value error, ")
    return words.format(**error.get("ctx", {}))
