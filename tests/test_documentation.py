"""The commands in README and its like are ones that autotag takes, with settings of Beam's that go together."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli import group

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "docs/runbook.md", "deploy/flink/README.md", "deploy/dataflow/README.md"]


def commands() -> Iterator[tuple[str, str]]:
    """Each document's autotag commands, of several lines joined; without what is behind a pipe, && or #."""
    for name in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r" && |\|", line):
                    found = re.match(r"\s*(?:\S+ )?(?:\.venv/bin/)?autotag ([a-z].*)", part)
                    if found:
                        yield name, found[1]


def leaf(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that the words name, its context, and the words behind its name."""
    context = click.Context(group, info_name="autotag")
    command: click.Command = group
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found, f"autotag has no command {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name, **command.context_settings)
    return command, context, words


@pytest.mark.parametrize(("document", "line"), [pytest.param(*each, id=each[1][:60]) for each in commands()])
def test_command_is_taken_as_it_is_written(document: str, line: str) -> None:
    command, context, words = leaf(shlex.split(line, comments=True))
    with context.scope(cleanup=False):
        beyond = command.parse_args(context, words)
    if line.startswith("preprocess "):
        from preprocessing.runners import parse_options, settings_of

        parse_options(settings_of(context.params, beyond).arguments())


def test_commands_are_found_in_every_document() -> None:
    found = [document for document, _ in commands()]
    assert set(found) == set(DOCUMENTS)
    assert len(found) > 40
