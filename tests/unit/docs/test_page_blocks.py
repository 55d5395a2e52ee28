"""Every shell block of the documentation runs in a test, or says why not.

The test that runs those of docs/install.md is tests/integration/test_install_page.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import examples
import pytest
from page_blocks import PAGE, PAGES, Block, blocks
from paths import REPOSITORY

TEXT = PAGE.read_text()
BLOCKS = [block for page in PAGES for block in blocks(page.read_text("utf-8"))]
RUN = [block for block in BLOCKS if block.runs_anywhere]


def first_line(block: Block) -> str:
    return block.text.splitlines()[0][:50]


def test_every_block_of_the_page_says_where_it_runs_or_why_not() -> None:
    found = blocks(TEXT)
    assert len(found) == len(re.findall(r"^```\w+$", TEXT, re.MULTILINE))
    assert {machine for block in found for machine in block.machines} == {"ctl", "node1", "login1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_no_block_is_hidden_by_its_indentation(page: Path) -> None:
    outside = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    # A paragraph before it makes it a block; lines of a list go on in the same way.
    assert not re.search(r"^(?![ *-])[^\n]+\n\n {4}\S", outside, re.MULTILINE)


@pytest.mark.parametrize("marker", ["", "<!-- TODO -->\n", "<!-- not run: -->\n"])
def test_block_without_a_reason_is_seen(marker: str) -> None:
    with pytest.raises(ValueError, match="does not say why"):
        blocks(f"text\n\n{marker}```sh\ntrue\n```\n")


@pytest.mark.parametrize("block", BLOCKS, ids=first_line)
def test_block_is_shell_that_can_be_parsed(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", RUN, ids=first_line)
def test_block_runs_with_a_prepared_cache(block: Block) -> None:
    with examples.prepared_cache() as cache:
        done = subprocess.run(
            # The last command reads the settings that a block has made.
            ["bash", "-euo", "pipefail", "-c", f"{block.text}\nslurm-factory versions"],
            env={"HOME": str(cache.parent), "PATH": f"{Path(sys.executable).parent}:{os.defpath}"},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "is not a setting" not in done.stderr


def test_blocks_run_and_not_only_reasons_are_given() -> None:
    assert len(RUN) >= 8
