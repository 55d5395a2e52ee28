"""Checks that the build has all features of the plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slurm_factory.exceptions import BuildError

if TYPE_CHECKING:
    from pathlib import Path


def check_config_h(
    promised: Sequence[tuple[str, str]], config_h: Sequence[str], output: Sequence[str]
) -> None:
    """Fail if configure disabled a feature of the plan.

    Args:
        promised: (feature, macro) pairs.
        config_h: Lines of config.h.
        output: Output lines of configure.

    Raises:
        BuildError: With configure's own reason.
    """
    defined = {m[1] for line in config_h if (m := re.match(r"#define (\w+)\b", line))}
    missing = [(feature, macro) for feature, macro in promised if macro not in defined]
    if not missing:
        return
    features = ", ".join(dict.fromkeys(feature for feature, _ in missing))
    # The line may begin with the name of the check.
    warnings = [
        found[0] for line in output if (found := re.search(r"configure: WARNING: .*", line))
    ]
    words = {word for feature, macro in missing for word in (feature, macro.removeprefix("HAVE_"))}
    about = [w for w in warnings if any(word.lower() in w.lower() for word in words)]
    raise BuildError(
        f"configure disabled a required feature: {features}.",
        details=" ".join(about) or f"config.h lacks {missing[0][1]}.",
        resolution=f'Build without it: --additional-variants "~{missing[0][0]}".',
    )


def require_files(promised: Sequence[tuple[str, str]], tree: Path) -> None:
    """Fail if the tree (host) lacks a file of a feature.

    Raises:
        BuildError: Names the feature and the file.
    """
    for feature, file in promised:
        if not (tree / file).exists():
            raise BuildError(
                f"The package lacks a required feature: {feature}.",
                details=f"{file} is not in the tree.",
                resolution="Read the build log for the reason.",
            )
