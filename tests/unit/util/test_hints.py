"""What errors repeat of a user's words, and what they suggest instead."""

import pytest

from slurm_factory.util.hints import did_you_mean, nearest, printable, quoted

KNOWN = ("pmix", "hdf5", "restd", "mariadb", "cpu_limit", "memory_limit", "spack_url")


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("hdf", "hdf5"),
        ("REST", "restd"),
        ("mysql_mariadb", "mariadb"),
        ("cpulimit", "cpu_limit"),
        ("memory", "memory_limit"),
        ("spack_ulr", "spack_url"),
        ("ipmi", None),
        ("", None),
        ("x" * 1_000_000, None),
    ],
)
def test_only_a_word_that_is_spelled_alike_is_suggested(word: str, known: str | None) -> None:
    assert nearest(word, KNOWN) == known
    assert did_you_mean(word, KNOWN, "No.") == (f"Did you mean {known}?" if known else "No.")


@pytest.mark.parametrize(
    "value",
    [
        "http://me:pa55@host/x",
        "http://me:a/pa55@host/x",
        "http://me:a@b?pa55#@host/x",
        "me:pa55@host",
        "https://host/ http://me:pa55@host/",
        ["http://me:pa55@host/x"],
        {"http://me:pa55@host": [("http://me:pa55@host/x",)]},
        f"http://me:{'pa55' * 1000}@host",
    ],
)
def test_no_password_is_repeated(value: object) -> None:
    assert "pa55" not in quoted(value)
    assert "***@" in quoted(value)


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b31m", "a\nb", "\x7f", "\u202ex", "\udcff"])
def test_no_control_character_is_repeated(text: str) -> None:
    assert quoted(text).isprintable()
    assert printable(text).isprintable()


def test_what_is_short_and_harmless_is_repeated_as_it_is() -> None:
    assert (quoted("git@host"), printable("a b"), quoted(8)) == ("'git@host'", "a b", "8")


def test_what_is_long_or_deep_is_repeated_in_one_short_line() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(quoted("x" * 1_000_000)) < 200
    assert len(quoted([["x" * 100] * 100] * 100)) < 10_000
    assert "..." in quoted(deep)
    while deep:  # Else the interpreter would take it apart recursively.
        deep = deep[0]  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value", ["debian:12", "mirror.example:3142/debian", "htp://mirror:3142/debian", "/srv/a:b/c"]
)
def test_a_value_without_a_password_is_repeated_whole(value: str) -> None:
    assert printable(value) == value
