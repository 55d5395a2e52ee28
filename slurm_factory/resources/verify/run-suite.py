"""Run a list of SchedMD's tests against an installed Slurm whose cluster is up (suite-cluster.sh).

Runs as root in an instance, with the distribution's Python (3.9 on Debian 11). The tests run as
SlurmUser. Prints one JSON document a line for each attempt at a test; the last one counts.

usage: run-suite.py PREFIX DIRECTORY LOGS    (DIRECTORY: with cluster.sh, tests.txt and source)
"""

from __future__ import annotations

import filecmp
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

TEST_SECONDS = 90
"""The longest one of the list takes 45 s on two busy cores."""
ATTEMPTS = 3
"""Some tests wait for a prompt that comes too early, or for a second that is not long enough."""
MOST_FAILURES = 40
"""Failures after which the rest is not worth hours: tests of a broken Slurm hang."""
CONFIGURATION, KEPT = Path("/etc/slurm"), Path("/etc/slurm.kept")
WORK = Path("/var/tmp/suite-work")
DAEMONS = ("slurmctld", "slurmdbd", "slurmd", "slurmstepd")
NODES = 9
USERS = {"root", "slurm", "alice", "bob"}
KINDS = {"failure": "failed", "error": "failed", "skipped": "skipped"}
"""Results of pytest's report; a case without one of them has passed."""
LARGEST_FAILURE = 127
"""Exit status of tests in expect: more means that they were skipped, all or in part."""
FINE = {"idle", "planned", "completing", "allocated", "mixed"}
"""States of nodes that end by themselves."""

PREFIX, DIRECTORY, LOGS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
SOURCE = DIRECTORY / "source"


def variables(user: str) -> dict[str, str]:
    """The environment of a user of the cluster."""
    return {
        "PATH": f"{PREFIX}/bin:{PREFIX}/sbin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": pwd.getpwnam(user).pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "LANG": "en_US.UTF-8",
        "TERM": "dumb",
        "SLURM_TESTSUITE_CONF": str(WORK / "testsuite.conf"),
        "SLURM_LOCAL_GLOBALS_FILE": str(WORK / "globals.local"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def prepare() -> None:
    """Tell the suite where everything is."""
    LOGS.mkdir(parents=True)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    shutil.chown(WORK, "slurm", "slurm")
    (WORK / "testsuite.conf").write_text(
        f"SlurmSourceDir={SOURCE}\nSlurmBuildDir={SOURCE}\n"
        f"SlurmInstallDir={PREFIX}\nSlurmConfigDir={CONFIGURATION}\n"
    )
    (WORK / "globals.local").write_text(
        f'set slurm_dir "{PREFIX}"\nset build_dir "{SOURCE}"\nset src_dir "{SOURCE}"\n'
        'set testsuite_user "alice"\nset testsuite_colorize false\nset max_job_delay 60\n'
    )
    # Python tests run commands as others in login shells.
    path = f'PATH="{PREFIX}/bin:{PREFIX}/sbin:$PATH"\n'
    Path("/etc/profile.d/suite.sh").write_text(path)


def slurm(*command: str) -> str:
    """What one of Slurm's commands prints for SlurmUser."""
    account = pwd.getpwnam("slurm")
    return subprocess.run(
        [f"{PREFIX}/bin/{command[0]}", *command[1:]],
        env=variables("slurm"),
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    ).stdout


def cluster(*words: str) -> None:
    """Let cluster.sh do something."""
    command = ["bash", str(DIRECTORY / "cluster.sh"), *words]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=False)


def run(name: str, user: str, options: list[str]) -> tuple[str, str]:
    """Run a test; returns passed, failed or skipped, and the reason."""
    log, report = LOGS / f"{name}.log", WORK / f"{name}.xml"
    report.write_text("")
    shutil.chown(report, user)
    if name.startswith("test_"):
        command = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "--disable-warnings", "-rA"]
        command += ["-v", "--local-config", "--no-color", "--allow-slurmdbd-modify"]
        command += [f"--junitxml={report}", *options, f"tests/{name}.py"]
    else:
        command = ["expect", name, *options]
    status = ended(command, name, user, log)
    end_rest_of(name)
    if status is None:
        return "failed", f"took more than {TEST_SECONDS} s"
    if name.startswith("test_"):
        return judge_python(status, report)
    return judge_expect(status, log.read_text(errors="replace"))


def ended(command: list[str], name: str, user: str, log: Path) -> int | None:
    """Exit status of a test; None after the limit."""
    account = pwd.getpwnam(user)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=SOURCE / "testsuite" / ("python" if name.startswith("test_") else "expect"),
            env={**variables(user), "SUITE_TEST": name},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            start_new_session=True,
        )
    try:
        return child.wait(timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        # Tests tidy up after SIGTERM.
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return None


def judge_expect(status: int, text: str) -> tuple[str, str]:
    """Result of a test from its exit status and what it said."""
    incomplete = re.findall(r"INCOMPLETE: (.*)$", text, re.MULTILINE)
    said = re.findall(r"(?:Fatal|Error|Warning) +(.*?) \((?:fail|subfail|skip)", text)
    reason = (incomplete or said or [""])[-1].strip()
    if status == 0:
        return "passed", ""
    if status <= LARGEST_FAILURE:
        return "failed", reason or text[-200:]
    # A test with subtests that do not apply here.
    passed = re.search(r"^  Subtests passed +: +[1-9]", text, re.MULTILINE)
    return ("passed" if passed and not incomplete else "skipped"), reason


def judge_python(status: int, report: Path) -> tuple[str, str]:
    """Result of a test from the report of pytest, whose status 5 means that nothing applied."""
    try:
        cases = list(ET.parse(report).getroot().iter("testcase"))
    except (OSError, ET.ParseError):
        return "failed", f"pytest ended with {status}"
    kinds, reason = set(), ""
    for case in cases:
        found = [(kind, part) for kind in KINDS for part in case.findall(kind)]
        for kind, part in found:
            expected = part.get("type") == "pytest.xfail"
            kinds.add("passed" if expected else KINDS[kind])
            reason = reason or (part.get("message") or kind).splitlines()[0]
        if not found:
            kinds.add("passed")
    if "failed" in kinds or status not in {0, 5}:
        return "failed", reason or f"pytest ended with {status}"
    return ("passed" if "passed" in kinds else "skipped"), reason


def end_rest_of(name: str) -> None:
    """End the processes that a test has left: they have its name in their environment."""
    wanted = f"SUITE_TEST={name}".encode()
    for attempt in range(3):
        left = False
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                given = (entry / "environ").read_bytes().split(b"\0")
                program = (entry / "comm").read_text().strip()
                if wanted in given and program not in DAEMONS:
                    left = True
                    os.kill(int(entry.name), signal.SIGKILL if attempt else signal.SIGTERM)
            except OSError:
                continue
        if not left:
            return
        time.sleep(0.2)


def repair() -> list[str]:
    """Make the cluster as it was before a test; returns what there was to do."""
    done = []
    changed = changed_files()
    if changed:
        done.append(f"configuration: {' '.join(changed)}")
        shutil.rmtree(CONFIGURATION)
        subprocess.run(["cp", "-a", str(KEPT), str(CONFIGURATION)], check=True)
    if not alive():
        cluster("restart", PREFIX)
        return [*done, "daemons were gone"]
    if changed:
        slurm("scontrol", "reconfigure")
        time.sleep(1)
    for kind, key, kept in (
        ("reservation", "ReservationName", ""),
        ("partition", "PartitionName", "all"),
    ):
        shown = slurm("scontrol", "-o", "show", kind)
        for name in set(re.findall(rf"{key}=(\S+)", shown)) - {kept}:
            done.append(f"{kind} {name}")
            slurm("scontrol", "delete", f"{kind}={name}")
    return done + repair_nodes() + repair_accounts()


def changed_files() -> list[str]:
    """Names of files of the configuration that are not as before."""
    names = {path.name for where in (KEPT, CONFIGURATION) for path in where.iterdir()}
    return sorted(
        name
        for name in names
        if not (KEPT / name).exists()
        or not (CONFIGURATION / name).exists()
        or ((KEPT / name).is_file() and not filecmp.cmp(KEPT / name, CONFIGURATION / name, False))
    )


def alive() -> bool:
    """Whether all daemons run."""
    for daemon, count in (("slurmctld", 1), ("slurmdbd", 1), ("slurmd", NODES)):
        found = subprocess.run(["pgrep", "-x", daemon], capture_output=True, text=True, check=False)
        if len(found.stdout.split()) < count:
            return False
    return True


def repair_nodes() -> list[str]:
    """End jobs, and wait until all nodes are idle."""
    done = []
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        jobs = sorted(set(slurm("squeue", "-ha", "-o", "%A").split()))
        if jobs:
            done.append("jobs left")
            slurm("scancel", *jobs)
        lines = slurm("sinfo", "-hN", "-o", "%N %T").splitlines()
        states = dict(line.split() for line in lines)
        if not jobs and len(states) == NODES and set(states.values()) == {"idle"}:
            return sorted(set(done))
        for node, state in states.items():
            if state.rstrip("*$@+-") not in FINE or state.endswith("$"):
                done.append(f"{node} was {state}")
                slurm("scontrol", "update", f"nodename={node}", "state=resume")
        time.sleep(0.25)
    cluster("restart", PREFIX)
    return [*sorted(set(done)), "nodes did not become idle"]


def repair_accounts() -> list[str]:
    """Leave in the database only what cluster.sh has put there."""
    done = []

    def rows(*words: str) -> set[str]:
        return set(slurm("sacctmgr", "-nP", "list", *words).split("\n")) - {""}

    def delete(kind: str, names: set[str]) -> None:
        for name in names:
            done.append(f"{kind} {name}")
            slurm("sacctmgr", "-iQ", "delete", kind, f"name={name}")

    wanted = {"suite|root", "suite|root|root", *(f"suite|testers|{user}" for user in USERS)}
    found = {row.rstrip("|") for row in rows("assoc", "format=Cluster,Account,User")}
    extra = [row.split("|") for row in found - wanted - {"suite|testers"}]
    delete("cluster", {row[0] for row in extra} - {"suite"})
    delete("account", {row[1] for row in extra if row[1:]} - {"root", "testers"})
    delete("user", {row[2] for row in extra if row[2:]} - USERS)
    delete("qos", rows("qos", "format=Name") - {"normal"})
    levels = rows("user", "format=User,AdminLevel")
    if wanted - found or not {"slurm|Administrator", "alice|None"} <= levels:
        done.append("accounts")
        cluster("accounts", PREFIX)
        slurm("sacctmgr", "-iQ", "modify", "user", "where", "name=alice", "set", "AdminLevel=None")
    return done


def attempt(line: str) -> bool:
    """Run a test of the list and print its result; returns whether it has failed."""
    first, *options = shlex.split(line)
    name, _, user = first.partition("@")
    began = time.monotonic()
    result, reason = run(name, user or "slurm", options)
    seconds = time.monotonic() - began
    try:
        repaired = repair()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        cluster("restart", PREFIX)
        repaired = [f"restart: {error}"]
    told = {"name": name, "result": result, "seconds": round(seconds, 1), "reason": reason[:200]}
    print(json.dumps({**told, "repaired": "; ".join(repaired)[:200]}), flush=True)
    return result == "failed"


def main() -> None:
    """Run the list, and again those that have failed."""
    prepare()
    tests = [line for line in (DIRECTORY / "tests.txt").read_text().splitlines() if line]
    repair()
    for _ in range(ATTEMPTS):
        failed: list[str] = []
        for test in tests:
            if attempt(test):
                failed.append(test)
            if len(failed) >= MOST_FAILURES:
                return
        tests = failed


main()
