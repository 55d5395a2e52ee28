"""Where programs of this machine are searched. Imports nothing: each command waits for it."""

import os

FURTHER_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/snap/bin")
"""Users of Debian have no sbin directory in PATH; cron and shells older than snapd no /snap/bin."""


def search_path() -> str:
    """PATH with the sbin and snap directories at its end."""
    directories = os.environ.get("PATH", os.defpath).split(":")
    return ":".join((*directories, *(d for d in FURTHER_DIRECTORIES if d not in directories)))
