"""The environment of the instance that `doctor` starts."""

import os
from pathlib import Path

import pytest

from slurm_factory import resources
from slurm_factory.host.doctor_instance import look_from_inside

PROXY = "http://somebody:s3cret@proxy.example:3128"
LXC = r"""#!/bin/sh
printf '%s\n' "$*" >> "${0%/*}/calls"
[ "$1" = exec ] || exit 0
[ -e "${0%/*}/started" ] || {
    touch "${0%/*}/started"
    echo "Error: Failed to retrieve PID of executing child process" >&2
    exit 255
}
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
SCRIPT = """echo "proxy=$http_proxy"
echo "certificates=$(cat)"
"""


@pytest.mark.parametrize("proxies", [{}, {"http_proxy": PROXY, "no_proxy": "a b, c"}])
def test_proxies_reach_the_instance_and_stand_in_no_command_line(
    proxies: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lxc").write_text(LXC)
    (tmp_path / "lxc").chmod(0o755)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(resources, "script", lambda _: SCRIPT)
    seen = look_from_inside("project", "image", "the certificates", proxies)
    assert seen == {"proxy": proxies.get("http_proxy", ""), "certificates": "the certificates"}
    calls = (tmp_path / "calls").read_text()
    assert calls.count("exec --project project") == 2
    assert "s3cret" not in calls
