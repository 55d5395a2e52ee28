"""What the runner of GitHub reads: the files of a step, and workflow commands in its output."""

import re

ANNOTATION = re.compile(r"::(?P<kind>error|warning|notice)(?: (?P<properties>.*?))?::(?P<text>.*)")
ESCAPES = {"%3A": ":", "%2C": ",", "%0D": "\r", "%0A": "\n", "%25": "%"}


def parsed(text: str) -> dict[str, str]:
    """Outputs as the runner reads them (FileCommandManager.cs, EnvFileKeyValuePairs)."""
    values: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            values[line[:equals]] = line[equals + 1 :]
        elif heredoc >= 0:
            end = line[heredoc + 2 :]
            values[line[:heredoc]] = "\n".join(iter(lambda: next(lines), end))
        else:
            assert not line, f"the runner refuses {line!r}"
    return values


def annotations(output: str) -> list[dict[str, str]]:
    """Annotations in the output of a step: `kind`, `text` and the properties."""
    found = (ANNOTATION.fullmatch(line) for line in output.splitlines())
    return [_annotation(each) for each in found if each]


def _annotation(found: re.Match[str]) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in (found["properties"] or "").split(",") if pair)
    properties = {name: _unescaped(value) for name, _, value in pairs}
    return {"kind": found["kind"], "text": _unescaped(found["text"]), **properties}


def _unescaped(text: str) -> str:
    return re.sub("%(?:3A|2C|0D|0A|25)", lambda found: ESCAPES[found[0]], text)
