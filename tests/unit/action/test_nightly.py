"""The script with which the nightly workflow gets ready to publish to the build cache."""

import os
import subprocess
from pathlib import Path

import store_servers
from buildcache_samples import signer

SCRIPT = Path(__file__).parents[3] / "tools/nightly/log-in.sh"
DOCKER = """\
#!/bin/bash
echo "$* $(cat)" > "$LOGIN"
"""


def run(here: Path, key: str) -> str:
    """Runs it where docker is a stand-in; returns what it printed."""
    (here / "home").mkdir(mode=0o700)
    (here / "docker").write_text(DOCKER)
    (here / "docker").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{here}:{os.environ['PATH']}",
        "GNUPGHOME": str(here / "home"),
        "GITHUB_ENV": str(here / "env"),
        "GITHUB_REPOSITORY_OWNER": "Some-Body",
        "LOGIN": str(here / "login"),
        "ACTOR": "me",
        "TOKEN": "s3cret",
        "SIGNING_KEY": key,
    }
    done = subprocess.run(
        [SCRIPT, "ghcr.io"], env=environment, check=True, capture_output=True, text=True
    )
    subprocess.run(["gpgconf", "--homedir", here / "home", "--kill", "all"], check=False)
    return done.stdout


def test_with_a_key_later_steps_publish_signed_packages(tmp_path: Path) -> None:
    store_servers.require("gpg", "gpg-agent")
    with signer("nightly") as someone:
        export = [
            "gpg",
            "--homedir",
            str(someone.home),
            "--batch",
            "--armor",
            "--export-secret-keys",
        ]
        key = subprocess.check_output(export, text=True)
        listing = ["gpg", "--homedir", str(someone.home), "--with-colons", "--list-keys"]
        rows = subprocess.check_output(listing, text=True).splitlines()
    (fingerprint,) = [row.split(":")[9] for row in rows if row.startswith("fpr:")]
    printed = run(tmp_path, key)
    assert "s3cret" not in printed
    assert "PRIVATE" not in printed
    assert (
        tmp_path / "login"
    ).read_text() == "login ghcr.io --username me --password-stdin s3cret\n"
    assert (tmp_path / "env").read_text().splitlines() == [
        "SLURM_FACTORY_SPACK_BUILDCACHE_PUBLISH=oci://ghcr.io/some-body/buildcache",
        f"SLURM_FACTORY_SIGN_KEY={fingerprint}",
    ]


def test_without_the_key_nothing_is_published(tmp_path: Path) -> None:
    assert "not published" in run(tmp_path, "")
    assert not (tmp_path / "env").exists()
    assert not (tmp_path / "login").exists()
