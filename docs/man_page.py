"""The manual page slurm-factory(1), in the macros of man(7), from the commands and settings."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from typer.core import TyperGroup
from typer.main import get_command

from slurm_factory import __version__, exceptions, usage
from slurm_factory.config import ENVIRONMENT_PREFIX, OTHER_VARIABLES, Settings
from slurm_factory.constants import APPLICATION
from slurm_factory.main import app
from slurm_factory.output.stdout import READER_GONE

SPECIAL = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "'": r"\(aq", '"': r"\(dq"}
"""Characters that groff would print as others (groff_char(7))."""
CODE = re.compile(r"`([^`]+)`")
DESCRIPTION = """\
builds Slurm with the libraries that it needs, in an LXD container or on this machine.
What comes out is a package: a tarball with a tree that works at any path, module files, a manifest,
a software bill of materials, and checksums.
The other commands verify packages, show what is in them, and remove what is no longer needed."""
PRECEDENCE = """\
The command line takes precedence over these variables, and they over the settings file, which has
the same names in lower case without the prefix. `slurm-factory settings` shows what is in effect.
Several values in one variable are separated by spaces or commas."""
PROXIES = "Proxies for downloads, here and in the instances."
GITHUB = "Files of a GitHub workflow, for the outputs and the summary of a build."
SETTINGS_FILE = "~/.config/slurm-factory/config.toml"
SEE_ALSO = "lxc(1), module(1), sha256sum(1), slurm(1), tar(1)"
UNREAD = "The reader of the output ended early; the work itself is finished."


def man_page() -> str:
    """The whole page."""
    group = cast("TyperGroup", get_command(app))
    above = group.make_context(APPLICATION, [], resilient_parsing=True)
    title = f'.TH {APPLICATION.upper()} 1 "" "{APPLICATION} {__version__}" "User Commands"'
    lines = [
        r".\" Generated from the code by `make docs`.",
        title,
        # Names of options and files are not to be broken or spread.
        ".nh",
        ".ad l",
        *_section("Name", [rf"{_text(APPLICATION)} \- {_text(_lower(group.help or ''))}"]),
        *_section("Synopsis", _synopsis(group)),
        *_section("Description", [f".B {_text(APPLICATION)}", *_paragraph(DESCRIPTION)]),
        *_section("Options", _options([p.get_help_record(above) for p in group.get_params(above)])),
        *_section("Commands", _commands(group, above)),
        *_section("Exit status", _exit_codes()),
        *_section("Environment", _environment()),
        *_section("Files", _files()),
        *_section("See also", [_text(SEE_ALSO)]),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f".SH {title.upper()}", *lines]


def _synopsis(group: TyperGroup) -> Iterator[str]:
    yield f".B {_text(APPLICATION)}"
    yield r"[\fIOPTIONS\fP] \fICOMMAND\fP [\fIARGUMENTS\fP]"
    for name in group.commands:
        yield ".br"
        yield rf"\fB{_text(APPLICATION)} {_text(name)}\fP \-\-help"


def _commands(group: TyperGroup, above: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=above, resilient_parsing=True)
        words = command.collect_usage_pieces(context)
        yield f'.SS "{_text(" ".join([name, *words]))}"'
        yield from _paragraph(command.help or "")
        for title, records in cast("usage.Command", command).groups(context).items():
            yield ".PP"
            yield f".I {_text(title)}"
            yield from _options(records)
        yield from _examples(name)


def _examples(command: str) -> Iterator[str]:
    found = usage.examples(command)
    if found:
        yield ".PP"
        yield ".I Examples"
    for does, run in found:
        yield from (".PP", f"{_text(does)}:", ".PP", ".RS 4", ".EX", _text(run), ".EE", ".RE")


def _options(records: Iterable[tuple[str, str] | None]) -> Iterator[str]:
    for left, right in filter(None, records):
        yield from _entry(rf"\fB{_text(left)}\fP", re.sub(r" {2,}\[", " [", right))


def _exit_codes() -> Iterator[str]:
    base = exceptions.SlurmFactoryError
    classes: Sequence[type[exceptions.SlurmFactoryError]] = (base, *base.__subclasses__())
    meanings = {0: "done"} | {cls.exit_code: cls.meaning for cls in classes}
    for code in sorted(meanings):
        yield from _entry(rf"\fB{code}\fP", f"{meanings[code][0].upper()}{meanings[code][1:]}.")
    yield from _entry(rf"\fB{READER_GONE}\fP", UNREAD)


def _environment() -> Iterator[str]:
    yield from _paragraph(PRECEDENCE)
    for name, field in Settings.model_fields.items():
        variables = (f"{ENVIRONMENT_PREFIX}{name.upper()}", *OTHER_VARIABLES.get(name, ()))
        has_default = field.default not in {None, ()}
        default = f" [default: {field.default}]" if has_default else ""
        head = ", ".join(rf"\fB{_text(each)}\fP" for each in variables)
        yield from _entry(head, f"{field.description}{default}")
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    yield from _entry(", ".join(rf"\fB{_text(each)}\fP" for each in proxies), PROXIES)
    yield from _entry(r"\fBGITHUB_OUTPUT\fP, \fBGITHUB_STEP_SUMMARY\fP", GITHUB)


def _files() -> Iterator[str]:
    """The settings file, and each directory below the cache directory."""
    yield from _entry(
        rf"\fI{_text(SETTINGS_FILE)}\fP",
        "The settings file, in TOML; with XDG_CONFIG_HOME, below that.",
    )
    cache = str(Settings.model_fields["cache_dir"].default)
    settings = Settings.model_construct(cache_dir=Path(cache))
    for name, value in vars(Settings).items():
        path = getattr(settings, name) if isinstance(value, property) else None
        if isinstance(path, Path):
            about = re.sub(r"\s+", " ", value.__doc__ or "").replace(" (host)", "")
            yield from _entry(rf"\fI{_text(str(path))}\fP", about)


def _entry(head: str, text: str) -> list[str]:
    return [".TP", head, _text(text)]


def _paragraph(text: str) -> list[str]:
    return [_text(line) for line in text.splitlines()]


def _lower(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}".rstrip(".")


def _text(text: str) -> str:
    """Text with nothing in it that groff would obey, and `code` in bold."""
    parts = CODE.split(text)
    escaped = ["".join(SPECIAL.get(letter, letter) for letter in part) for part in parts]
    escaped[1::2] = [rf"\fB{part}\fP" for part in escaped[1::2]]
    line = "".join(escaped)
    return rf"\&{line}" if line.startswith(".") else line
