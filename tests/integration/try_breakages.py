"""Break a running cluster in one way for each check, and show that the check fails, by hand.

PYTHONPATH=tests/support try_breakages.py MANIFEST [CHECK…]

Prints the table of docs/verification.md. Exit status 1: a check did not notice.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from clean_instance import clean_copy

from slurm_factory.config import load_settings
from slurm_factory.instances.machine import Machine, ScriptError
from slurm_factory.verify.cluster import Cluster, Place, check_kinds, places
from slurm_factory.verify.package import find_package
from slurm_factory.verify.static import ProblemError, SkippedError, look

WAIT_SECONDS = 20
"""Long enough for what works; what is broken never comes."""


@dataclass(frozen=True)
class Breakage:
    """Something to do to a running cluster; `tree` is its tree.

    Attributes:
        about: For the table.
        break_it: Commands of a shell.
        mend_it: Commands that take it back.
    """

    about: str
    break_it: str
    mend_it: str


def without(file: str) -> Breakage:
    """A file of the tree is missing."""
    away = f'mv "${{tree}}/{file}" /var/tmp/away'
    return Breakage(f"`{file}` is missing", away, f'mv /var/tmp/away "${{tree}}/{file}"')


def other_module(name: str) -> Breakage:
    """A PAM module that lets everybody in."""
    path = f'"${{tree}}/lib/security/{name}"'
    put = f"mv {path} /var/tmp/away; cp /usr/lib/*/security/pam_permit.so {path}"
    return Breakage(f"`{name}` is pam_permit.so", put, f"mv -f /var/tmp/away {path}")


def other_text(file: str, pattern: str) -> Breakage:
    """A line of a module file is missing."""
    path = f'"${{tree%/*}}"/{file}'
    return Breakage(
        f"`{file}` lacks a line",
        f"cp {path} /var/tmp/away; sed -i '/{pattern}/d' {path}",
        f"mv -f /var/tmp/away {path}",
    )


START_MUNGED = """
preload=${LD_PRELOAD-}
unset LD_PRELOAD
as munge LD_PRELOAD="${preload}" "${tree}/sbin/munged"
for node in "${NODES[@]}"; do at_as "${node}" munge "${tree}/sbin/munged"; done
"""
LUA, TCL = "modules/slurm/*.lua", "modulefiles/slurm/*"
BREAKAGES: dict[str, Breakage] = {
    "machine": Breakage(
        "Another munged is in the search path",
        "ln -s /bin/true /usr/local/bin/munged",
        "rm /usr/local/bin/munged",
    ),
    "munge": Breakage(
        "munged has ended",
        "pkill -x munged",
        START_MUNGED,
    ),
    "srun": without("sbin/slurmstepd"),
    "sbatch": without("bin/srun"),
    "salloc": without("bin/srun"),
    "restd": Breakage(
        "slurmrestd has ended",
        "pkill -x slurmrestd",
        'as slurmrest SLURM_JWT=daemon "${tree}/sbin/slurmrestd" unix:/run/slurmrestd/socket'
        " 127.0.0.1:6820 > /dev/null 2>&1 < /dev/null &",
    ),
    "lua": Breakage(
        "job_submit.lua does nothing",
        "cp /etc/slurm/job_submit.lua /var/tmp/away; sed -i /comment/d /etc/slurm/job_submit.lua",
        "mv /var/tmp/away /etc/slurm/job_submit.lua",
    ),
    "pmix": without("lib/slurm/mpi_pmix.so"),
    "mpi": without("lib/slurm/mpi_pmix.so"),
    "api": without("include/slurm/slurm.h"),
    "x11": Breakage(
        "xauth is missing on the machines",
        "mv /usr/bin/xauth /var/tmp/away",
        "mv /var/tmp/away /usr/bin/xauth",
    ),
    "pam": other_module("pam_slurm.so"),
    "login": other_module("pam_slurm_adopt.so"),
    "nss": without("lib/nss/libnss_slurm.so.2"),
    "completion": without("share/bash-completion"),
    "perl": without("lib/perl5"),
    "tls": Breakage(
        "The certificate of the authority is another one",
        "mv /etc/slurm/ca_cert.pem /var/tmp/away;"
        " cp /etc/slurm/ctld_cert.pem /etc/slurm/ca_cert.pem",
        "mv -f /var/tmp/away /etc/slurm/ca_cert.pem",
    ),
    "configless": Breakage(
        "The machine has a configuration",
        "at node3 touch /etc/slurm/slurm.conf",
        "at node3 rm /etc/slurm/slurm.conf",
    ),
    "reconfigure": Breakage(
        "slurm.conf cannot be read by slurmctld",
        "chmod 000 /etc/slurm/slurm.conf",
        "chmod 644 /etc/slurm/slurm.conf",
    ),
    "gpu": without("lib/slurm/gpu_nvml.so"),
    "libraries": Breakage(
        "munged has loaded a library of the machine",
        "pkill -x munged; sleep 1; export LD_PRELOAD=$(ls /usr/lib/*/libcurl.so.4);"
        f" {START_MUNGED}",
        f"pkill -x munged; sleep 1; {START_MUNGED}",
    ),
    "lmod-beside": other_text(LUA, 'prepend_path("PATH"'),
    "tcl-beside": other_text(TCL, "prepend-path PATH"),
    "restart": without("sbin/slurmd"),
    "sackd": without("sbin/sackd"),
}


def run(machine: Machine, place: Place, commands: str) -> None:
    """Run commands of a shell, with `tree`."""
    machine.run_text("breakage", f"tree=$1\nset +e\n{commands}\nexit 0\n", place.tree)


NO_START = without("lib/slurm/select_cons_tres.so")


def without_start(cluster: Cluster, place: Place) -> str:
    """What the start of a cluster says that cannot start."""
    run(cluster.machine, place, NO_START.break_it)
    try:
        cluster.start(place)
    except ScriptError as error:
        return f"failed: {error.details}"
    finally:
        cluster.stop()
        run(cluster.machine, place, NO_START.mend_it)
    raise SystemExit("A cluster without select_cons_tres.so starts.")


def outcome(cluster: Cluster, place: Place, name: str) -> tuple[str, str]:
    """Whether a check passes, fails or does not apply, and what it says."""
    checks: dict[str, Callable[[], str]] = {
        kind.name: partial(cluster.check, kind, place) for kind in check_kinds()
    }
    checks["libraries"] = partial(cluster.check_libraries, place)
    checks["lmod-beside"] = partial(cluster.check_module, place, "lmod", beside=True)
    checks["tcl-beside"] = partial(cluster.check_module, place, "tcl", beside=True)
    checks["sackd"] = partial(cluster.check_sackd, place)
    try:
        return "passed", checks[name]()
    except SkippedError as reason:
        return "skipped", str(reason)
    except (ProblemError, ScriptError) as problem:
        return "failed", str(problem)


def try_one(cluster: Cluster, place: Place, name: str) -> tuple[str, str]:
    """The outcome of a check of a broken cluster; "passed" only if it did not notice."""
    before = outcome(cluster, place, name)
    if before[0] != "passed":
        return "skipped" if before[0] == "skipped" else "broken before", before[1]
    run(cluster.machine, place, BREAKAGES[name].break_it)
    try:
        return outcome(cluster, place, name)
    finally:
        run(cluster.machine, place, BREAKAGES[name].mend_it)
        run(cluster.machine, place, 'as slurm "${tree}/bin/scancel" --user=alice')


def main(words: Sequence[str], on_line: Callable[[str], None]) -> int:
    """Break each thing, and tell what its check says."""
    settings = load_settings()
    package, *names = words
    wrong = 0
    with TemporaryDirectory() as scratch, clean_copy(settings) as instance:
        opened = look(find_package(package, settings), Path(scratch)).opened
        if opened is None:
            raise SystemExit(f"{package} cannot be unpacked.")
        cluster = Cluster(replace(instance, wait=WAIT_SECONDS), opened)
        place = places()[0]
        cluster.deliver(place)
        if not names:
            on_line(f"| start | {NO_START.about} | {without_start(cluster, place)} |")
        cluster.start(place)
        for name in names or BREAKAGES:
            result, said = try_one(cluster, place, name)
            wrong += result in {"passed", "broken before"}
            on_line(f"| {name} | {BREAKAGES[name].about} | {result}: {said} |")
        cluster.stop()
    return min(wrong, 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], print))
