"""The errors a user reads: one class per exit code."""

import pytest

from slurm_factory import exceptions
from slurm_factory.exceptions import SlurmFactoryError

CODES = {
    "SlurmFactoryError": 1,
    "BuildError": 1,
    "ConfigurationError": 2,
    "LXDError": 3,
    "DownloadError": 4,
    "SpackError": 5,
    "VerificationError": 6,
    "OutputError": 7,
    "InterruptedBuildError": 130,
}


def classes() -> dict[str, type[SlurmFactoryError]]:
    return {
        name: member
        for name, member in vars(exceptions).items()
        if isinstance(member, type) and issubclass(member, SlurmFactoryError)
    }


def test_every_exit_code_of_the_contract_has_its_class() -> None:
    assert {name: kind.exit_code for name, kind in classes().items()} == CODES


def test_every_exit_code_has_one_meaning() -> None:
    meanings: dict[int, set[str]] = {}
    for kind in classes().values():
        meanings.setdefault(kind.exit_code, set()).add(kind.meaning)
    assert all(len(found) == 1 and all(found) for found in meanings.values())


@pytest.mark.parametrize("name", CODES)
def test_an_error_is_raised_with_three_parts_and_printed_without_the_empty_ones(name: str) -> None:
    kind = classes()[name]
    assert str(kind("What.", details="Why.", resolution="Do.")) == "What.\nWhy.\nDo."
    assert str(kind("What.", resolution="Do.")) == "What.\nDo."
    assert str(kind("What.")) == "What."
