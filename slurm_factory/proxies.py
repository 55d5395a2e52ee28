"""Which proxies the environment names."""

from collections.abc import Mapping
from typing import Final

PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables that are set, by their lower-case names.

    The lower-case spelling wins, as in curl(1), which knows no other for `http_proxy`.
    """
    values = {name: environ.get(name) or environ.get(name.upper()) for name in PROXY_VARIABLES}
    return {name: value for name, value in values.items() if value}
