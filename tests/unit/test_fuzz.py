"""Whatever a user writes: an exit code that is documented, no traceback, no control character and
no password on the terminal, and an end.

The examples are the same in every run, and few: SLURM_FACTORY_TESTS_EXAMPLES asks for more, others.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_samples import sample_plan, sample_settings
from typer.testing import CliRunner

from slurm_factory.config import Settings, settings_file
from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.main import app
from slurm_factory.plan.base_setup import record_path, setup_digest
from slurm_factory.recipes.spack.lock import load_lock, read_lock
from slurm_factory.up_to_date import base_record, find_up_to_date
from slurm_factory.workspace import prepare_cache

PASSWORD = "pa55w0rd"
EXIT_CODES = {
    0,
    SlurmFactoryError.exit_code,
    *(c.exit_code for c in SlurmFactoryError.__subclasses__()),
}
EXAMPLES = os.environ.get("SLURM_FACTORY_TESTS_EXAMPLES")
quickly = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

SPECIAL = (
    *("", " ", "latest", "24", "24.11", "24.11.5", "25.06", "same", "debian@12", "debian@nan"),
    *(
        "spack",
        "system",
        "+hdf5 ~lua",
        "+ipmi",
        "+",
        "~~",
        "-1",
        "1e999",
        "1.5GiB",
        "8GiB",
        "0",
        "9" * 5000,
    ),
    *(
        "\x1b[31mred",
        "\x9b31m",
        "a\nb",
        "\r",
        "\u202e",
        "~",
        "~nobody",
        "/",
        "..",
        "/dev/null",
        "/proc",
    ),
    *(
        "[" * 5000,
        "{" * 5000,
        "[[]]",
        "2001-99-99",
        "!!int foo",
        "!!bool x",
        "&a [*a]",
        "true",
        "%s",
        "{0}",
    ),
    f"http://me:{PASSWORD}@host/x",
    f"https://me:a/{PASSWORD}@host",
    f"ftp://me:{PASSWORD}@host/\x1b]0;x\x07",
    f"file:///x http://me:{PASSWORD}@host",
)
argument = st.sampled_from(SPECIAL) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
)
OPTIONS = ("--slurm-version", "--base", "--deps", "--additional-variants", "--jobs")
FLAGS = ("--gpu", "--minimal", "--destructive-mode", "--json", "-q", "-v")


class Runs:
    """Runs the program in this process, in the surroundings of a test."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self._patch = patch
        self.cache = directory / "cache"

    def check(self, *arguments: str, environment: Sequence[tuple[str, str]] = ()) -> None:
        with self._patch.context() as patch:
            patch.setenv("SLURM_FACTORY_CACHE_DIR", str(self.cache))
            for name, value in environment:
                patch.setenv(name, value)
            result = CliRunner().invoke(app, arguments)
        shown = result.stdout + result.stderr
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in EXIT_CODES
        assert PASSWORD not in shown
        assert [c for c in shown if not c.isprintable() and c != "\n"] == []


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    return Runs(monkeypatch, tmp_path)


@contextmanager
def file(path: Path, text: str) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    yield path
    path.unlink()


@quickly
@given(
    values=st.dictionaries(st.sampled_from(OPTIONS), argument, max_size=4),
    flags=st.sets(st.sampled_from(FLAGS)),
)
def test_any_arguments(runs: Runs, values: dict[str, str], flags: set[str]) -> None:
    given_ = {"--slurm-version": "24.11", "--base": "debian@12"} | values
    options = [f"{name}={value}" for name, value in given_.items()]
    runs.check("build", "--dry-run", *options, *sorted(flags))


@quickly
@given(name=st.sampled_from([*Settings.model_fields, "unknown_\x1b[1m"]), value=argument)
def test_any_variable(runs: Runs, name: str, value: str) -> None:
    variable = f"SLURM_FACTORY_{name.upper()}"
    runs.check("build", "--dry-run", "--slurm-version", "24.11", environment=[(variable, value)])


def toml_string(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


LITERALS = st.sampled_from(["1", "true", "[" * 5000, "{}", "1979-05-27", "nan", "= =", '"x'])


@quickly
@given(
    key=st.sampled_from(tuple(Settings.model_fields)) | argument,
    value=LITERALS
    | argument.map(lambda text: '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'),
)
def test_any_settings_file(runs: Runs, key: str, value: str) -> None:
    with file(settings_file(), f"{toml_string(key)} = {value}\n"):
        runs.check("versions", "--json")


@quickly
@given(
    section=st.sampled_from(["config", "repos", "packages", "mirrors", "spack", "package:"])
    | argument,
    value=argument | argument.map(lambda text: f"{{a: {text}}}") | argument.map("[{}]".format),
)
def test_any_configuration_of_spack(runs: Runs, section: str, value: str) -> None:
    with file(runs.cache.parent / "site.yaml", f"{section}: {value}\n") as path:
        runs.check(
            *("build", "--dry-run", "--slurm-version", "24.11"),
            environment=[("SLURM_FACTORY_SPACK_CONFIG", str(path))],
        )


@quickly
@given(text=argument | argument.map('{{"identity": "{}"}}'.format), as_json=st.booleans())
def test_any_manifest(runs: Runs, text: str, *, as_json: bool) -> None:
    with file(runs.cache / "builds/24.11/slurm-24.11-manifest.json", text):
        runs.check("list", *(["--json"] if as_json else []))


DIGEST = "a" * 32
RECORD = {
    "base": "debian@12",
    "setup": setup_digest(sample_plan().setup),
    "packages": {"gcc:amd64": "12"},
    "externals": {},
}
LOCK = {
    "roots": [{"hash": DIGEST, "spec": "slurm"}],
    "concrete_specs": {
        DIGEST: {
            "name": "slurm",
            "version": "1",
            "external": {"path": "/usr"},
            "dependencies": [{"hash": DIGEST, "parameters": {"deptypes": ["link"]}}],
        }
    },
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | argument,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(argument, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def nearly(draw: st.DrawFn, document: Any) -> Any:
    """A document with one of its values, however deep in it, replaced by anything."""
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 4)) == 0:
        return draw(anything)
    keys = [*document] if isinstance(document, dict) else [*range(len(document))]
    key, changed = draw(st.sampled_from(keys)), document.copy()
    changed[key] = draw(nearly(document[key]))
    return changed


@quickly
@given(content=nearly(RECORD).map(json.dumps) | argument)
def test_any_record_of_a_base(runs: Runs, content: str) -> None:
    plan, site = sample_plan(), sample_settings(runs.cache)
    with file(record_path(plan.setup, site.images_dir), content):
        if record := base_record(plan, site):
            assert plan.build_key(record)


@settings(quickly, max_examples=int(EXAMPLES or 150))
@given(content=nearly(LOCK).map(json.dumps) | argument)
def test_any_lock_that_is_kept_or_that_spack_has_written(runs: Runs, content: str) -> None:
    with file(runs.cache / "spack-locks/a.json", content) as path:
        text = load_lock(path)
    if text is not None:
        lock = read_lock(text)
        assert all(node.label for node in (*lock.run_time, *lock.packages))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_not_a_file_in_the_place_of_one_is_neither_waited_for_nor_a_traceback(
    runs: Runs, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # No LXD.
    plan, site = sample_plan(), sample_settings(runs.cache)
    prepare_cache(site)
    build = "20261127-100000-25-05-a1b2c3"
    record, lock = record_path(plan.setup, site.images_dir), site.spack_locks_dir / "a.json"
    for path in (
        *(record, record.with_name(f"{record.name}.lock"), lock, site.work_dir / f"{build}.lock"),
        *(site.builds_dir / f"24.11/{plan.stem}{end}" for end in ("-manifest.json", ".sha256")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    assert find_up_to_date(plan, site) is None
    assert load_lock(lock) is None
    runs.check("list")
    runs.check("clean", "--full", "--builds", "--caches", "--yes")
    assert not [path for path in (record, lock, site.work_dir / f"{build}.lock") if path.exists()]
