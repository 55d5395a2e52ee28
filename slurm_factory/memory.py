"""How much memory this machine has to spare."""

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
KIB = 1024


def available_memory(meminfo: str | None = None) -> int:
    """MemAvailable in bytes; 0 where the kernel does not tell (proc(5)).

    Args:
        meminfo: Text of /proc/meminfo; None: that of this machine.
    """
    text = MEMINFO.read_text() if meminfo is None else meminfo
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * KIB if found else 0
