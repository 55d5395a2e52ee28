"""On which distributions a package starts."""

import pytest

from slurm_factory.exceptions import VerificationError
from slurm_factory.package.distributions import (
    distributions,
    distributions_with,
    require_startable,
)

RHEL_8 = "RHEL 8, Rocky 8, AlmaLinux 8"


def test_glibc_decides_what_starts() -> None:
    assert "Debian 12" in distributions_with("2.36")
    assert "Debian 11" not in distributions_with("2.36")
    assert distributions_with("2.28") == tuple(each.name for each in distributions())
    assert RHEL_8 not in distributions_with("2.29")


@pytest.mark.parametrize(
    ("version", "starts"),
    [
        ("GLIBCXX_3.4.25", True),
        ("GLIBCXX_3.4.26", False),
        ("GLIBCXX_3.4.9", True),
        ("CXXABI_1.3.11", True),
        ("CXXABI_1.3.12", False),
        ("GFORTRAN_8", True),
        ("GFORTRAN_10.2", False),
        ("GCC_7.0.0", True),
        ("GCC_12.0.0", False),
        ("CXXABI_TM_1", True),
        ("LIBPAM_1.4", True),
    ],
)
def test_libraries_of_the_compiler_decide_too(version: str, starts: bool) -> None:
    assert (RHEL_8 in distributions_with("2.17", [version])) is starts
    assert "Debian 12" in distributions_with("2.17", [version])
    if starts:
        require_startable("2.28", [version])
    else:
        with pytest.raises(VerificationError, match="RHEL 8") as caught:
            require_startable("2.28", [version])
        assert version in caught.value.details
    require_startable("2.36", [version])
