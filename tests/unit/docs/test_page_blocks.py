"""Every code block of docs/install.md runs in a test, or says why not.

The test that runs them is tests/integration/test_install_page.py.
"""

import re
import subprocess

import pytest
from page_blocks import PAGE, Block, blocks

TEXT = PAGE.read_text()


def test_every_block_of_the_page_says_where_it_runs_or_why_not() -> None:
    found = blocks(TEXT)
    assert len(found) == len(re.findall(r"^```\w+$", TEXT, re.MULTILINE))
    outside = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^ {4}\S", outside, re.MULTILINE)
    assert {machine for block in found for machine in block.machines} == {"ctl", "node1", "login1"}


@pytest.mark.parametrize("marker", ["", "<!-- TODO -->\n", "<!-- not run: -->\n"])
def test_block_without_a_reason_is_seen(marker: str) -> None:
    with pytest.raises(ValueError, match="does not say why"):
        blocks(f"text\n\n{marker}```sh\ntrue\n```\n")


@pytest.mark.parametrize("block", blocks(TEXT), ids=lambda block: block.text.splitlines()[0][:50])
def test_block_is_shell_that_can_be_parsed(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
