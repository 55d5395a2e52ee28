"""What patch(1) says, in the words of both recipes."""

import pytest

from slurm_factory.recipes.patches import PatchProgress

SYSTEM = """\
Applying slurm-relocatable.patch
patching file src/common/plugin.c
Hunk #3 succeeded at 187 (offset 2 lines).
Applying site-01-fix.patch
patching file src/slurmd/slurmd.c
Hunk #2 FAILED at 40.
1 out of 3 hunks FAILED -- saving rejects to file src/slurmd/slurmd.c.rej
Hunk #9 FAILED at 99.
"""
SPACK = SYSTEM.replace("Applying", "==> Applying")
MISSING = """\
Applying site-01-fix.patch
can't find file to patch at input line 3
Perhaps you used the wrong -p or --strip option?
The text leading up to this was:
--------------------------
|--- a/src/gone.c
|+++ b/src/gone.c
--------------------------
Skip this patch? [y]
Skipping patch.
1 out of 1 hunk ignored
"""
QUOTED = SYSTEM.replace("file src/slurmd/slurmd.c\n", "file 'src/a b.c'\n")
FITS = "\n".join(SYSTEM.splitlines()[:4])


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        (SYSTEM, "hunk 2 of src/slurmd/slurmd.c, at line 40"),
        (SPACK, "hunk 2 of src/slurmd/slurmd.c, at line 40"),
        (QUOTED, "hunk 2 of src/a b.c, at line 40"),
        (MISSING, "src/gone.c, which this release does not have"),
        ("Applying site-01-fix.patch\npatch: **** malformed patch at line 4: x", "malformed patch"),
        ("Applying site-01-fix.patch\npatch: **** Only garbage was found", "Only garbage"),
        (FITS, ""),
        ("", ""),
    ],
)
def test_first_hunk_that_does_not_fit_is_named(output: str, failed: str) -> None:
    seen: list[str] = []
    progress = PatchProgress(seen.append)
    for line in output.splitlines():
        progress(line)
    assert progress.failed == failed or progress.failed.startswith(failed or "-")
    assert seen == output.splitlines()
    if failed:
        error = progress.error("24.11.5")
        assert error.brief == "The patch site-01-fix.patch does not apply to Slurm 24.11.5."
        assert failed in error.details
