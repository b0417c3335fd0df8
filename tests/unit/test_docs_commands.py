"""Every `penstock …` line of the documentation names a command and options that exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from penstock.cli.app import build
from penstock_schemas import metric_defs

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
_SPAN = re.compile(r"`(penstock [^`\n]+)`")
_LINE = re.compile(r"^(?: {4})?(?:\$ )?(penstock .+)$", re.MULTILINE)
_FENCED = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}.+\n)+", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def _commands(text: str) -> Iterator[str]:
    for span in _SPAN.finditer(text):
        yield span[1]
    for block in (*_FENCED.finditer(text), *_INDENTED.finditer(text)):
        for line in _LINE.finditer(block[0]):
            yield line[1]


ALL = sorted(
    {(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in _commands(page.read_text())}
)


def _faults(line: str) -> list[str]:
    command: click.Command = get_command(build())  # type: ignore[assignment]
    words = shlex.split(line.replace("…", ""), comments=True)[1:]
    faults, options = [], {name for option in command.params for name in option.opts}
    for word in words:
        if word in (">", "|", "<"):
            break
        subcommands = getattr(command, "commands", {})
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] not in options:
                faults.append(f"{command.name} has no option {word}")
        elif word in subcommands:
            command = subcommands[word]
            options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        elif subcommands:
            faults.append(f"{command.name} has no command {word}")
    return faults


def test_there_are_commands_to_check() -> None:
    assert len(ALL) > 10
    assert ("docs/operations.md", "penstock worker --topic orders --accept-loss orders:3") in ALL


@pytest.mark.parametrize(("page", "line"), ALL)
def test_a_documented_command_exists(page: str, line: str) -> None:
    assert _faults(line) == [], page


@pytest.mark.parametrize(
    "line", ["penstock evnts", "penstock events --entities 42", "penstock retention drop"]
)
def test_a_wrong_one_would_be_found(line: str) -> None:
    assert _faults(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_and_measures_exists(page: Path) -> None:
    text = page.read_text()
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []
    known = {metric.name for metric in vars(metric_defs).values() if isinstance(metric, metric_defs.Metric)}
    named = set(re.findall(r"\bpenstock_(?:worker|retention|registry|producer|store)_[a-z_]+", text))
    of_metrics = {name for name in named if name.endswith(("_total", "_seconds", "_lag", "_stopped", "_up"))}
    assert of_metrics <= known
