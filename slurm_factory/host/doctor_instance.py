"""A short-lived instance that checks the network."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slurm_factory import resources
from slurm_factory.constants import DOCTOR_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.host import setup_steps as plan
from slurm_factory.host.facts import Account, HostFacts
from slurm_factory.host.probe import SUDO
from slurm_factory.util.machine import certificates_in
from slurm_factory.util.process import FROM_STDIN, TRANSIENT, Outcome, exports, run

SCRIPT = "host-probe-network.sh"
START_SECONDS = 120.0
ADDRESS_SECONDS = 20
PROBE_SECONDS = 90.0
TRY_SECONDS = 150.0
DELETE_SECONDS = 60.0
DELETE_ATTEMPTS = 20
PAUSE_SECONDS = 0.3
EXEC_ATTEMPTS = 10
"""More than builds take: this is shortly after a start."""


def find_image(project: str) -> str | None:
    """Fingerprint of a container image in an LXD project, or None.

    Takes the smallest one, because copies take time.
    """
    answer = run(["lxc", "query", f"local:/1.0/images?recursion=1&project={project}"])
    images = json.loads(answer.output or "[]") if answer.ok else []
    usable = [
        image
        for image in images or ()
        if image.get("type") == "container" and image.get("architecture") == os.uname().machine
    ]
    smallest = min(usable, key=lambda image: int(image["size"]), default=None)
    return str(smallest["fingerprint"]) if smallest else None


def look_from_inside(
    project: str, image: str, certificates: str, proxies: Mapping[str, str]
) -> dict[str, str]:
    """Start an instance, check the network from inside it, delete it.

    Args:
        project: LXD project.
        image: Fingerprint or alias of an image in it.
        certificates: Additional CA certificates for instances, PEM.
        proxies: Environment variables for the programs in the instance.

    Returns:
        The lines that resources/scripts/host-probe-network.sh prints, by key.

    Raises:
        LXDError: The instance cannot be started, or runs nothing.
    """
    with _instance(project, image) as name:
        outcome = _probe(project, name, certificates, proxies)
    if not outcome.ok:
        raise LXDError(
            "An instance starts, but commands in it fail.",
            details=last_line(outcome.errors),
            resolution=_try_by_hand(project, image),
        )
    return parse_report(outcome.output)


def try_instance(account: Account) -> Outcome:
    """Start an instance that needs no image, and delete it; what it prints ends with the cause.

    Args:
        account: The account on the host that the instance's root maps to.
    """
    name = doctor_name()
    try:
        return run(plan.try_command(name, account), seconds=TRY_SECONDS)
    except BaseException:
        _delete("default", name)
        run(["lxc", "image", "delete", "--project", "default", f"local:{name}"])
        raise


def doctor_name() -> str:
    """A name for a short-lived instance."""
    return f"{DOCTOR_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"


def has_instances(project: str, facts: HostFacts) -> bool:
    """Whether the LXD project has an instance, so that instances have started here before."""
    prefix = () if facts.permitted else SUDO
    answer = run([*prefix, "lxc", "query", f"local:/1.0/instances?project={project}"])
    return answer.ok and bool(json.loads(answer.output or "[]"))


def parse_report(text: str) -> dict[str, str]:
    """KEY=VALUE lines as a dictionary; ignores other lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def further_certificates(directory: Path) -> str:
    """The text of all `*.crt` files (PEM) in and below a host directory."""
    texts = (file.read_text(errors="replace") for file in certificates_in(directory))
    return "".join(f"{text.strip()}\n" for text in texts)


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _try_by_hand(project: str, image: str) -> str:
    lxc = f"lxc --project {project}"
    return f"{lxc} launch {image[:12]} try; {lxc} info --show-log try; {lxc} delete --force try"


@contextmanager
def _instance(project: str, image: str) -> Iterator[str]:
    name = doctor_name()
    start = ["lxc", "launch", "--project", project, "--ephemeral"]
    try:
        started = run([*start, f"local:{image}", f"local:{name}"], seconds=START_SECONDS)
        if not started.ok:
            raise LXDError(
                "No instance can be started.",
                details=last_line(started.errors),
                resolution=_try_by_hand(project, image),
            )
        yield name
    finally:
        _delete(project, name)


def _delete(project: str, name: str) -> None:
    # LXD continues an aborted start for a moment; the instance is "busy" or not there yet.
    absent = 0
    for _ in range(DELETE_ATTEMPTS):
        outcome = run(
            ["lxc", "delete", "--project", project, "--force", f"local:{name}"],
            seconds=DELETE_SECONDS,
            own_session=True,
        )
        absent = 0 if _is_there(project, name) else absent + 1
        if outcome.ok or absent > 1:
            return
        time.sleep(PAUSE_SECONDS)


def _is_there(project: str, name: str) -> bool:
    answer = run(["lxc", "query", f"local:/1.0/instances?project={project}"], own_session=True)
    urls = json.loads(answer.output or "[]") if answer.ok else [name]
    return any(url.partition("?")[0].endswith(name) for url in urls or ())


def _probe(project: str, name: str, certificates: str, proxies: Mapping[str, str]) -> Outcome:
    # Every user can read the command line, and proxies may have passwords in them.
    line, from_stdin = (exports(proxies), FROM_STDIN) if proxies else ("", ())
    command = [*from_stdin, "bash", "-c", resources.script(SCRIPT), SCRIPT, str(ADDRESS_SECONDS)]
    argv = ["lxc", "exec", "--project", project, "-T", f"local:{name}", "--", *command]
    for _ in range(EXEC_ATTEMPTS):
        outcome = run(argv, seconds=PROBE_SECONDS, text=line + certificates)
        if TRANSIENT not in outcome.errors:
            break
        time.sleep(PAUSE_SECONDS)
    return outcome
