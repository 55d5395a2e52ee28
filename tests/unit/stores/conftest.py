"""Rules for tests of stores."""

import pytest

from slurm_factory.fetch import http


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try follows at once."""
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
