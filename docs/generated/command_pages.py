"""The page of all commands, from what click knows of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from pipeline.cli import group

INTRODUCTION = """# Commands

`autotag COMMAND --help` says the same. Options of the whole program stand before the command: `autotag --verbose run`
shows the libraries' own log lines, `autotag --version` the version. [Exit codes](errors.md#exit-codes) are the same for
all commands.
"""


def commands() -> str:
    """Return the page, in Markdown: a section a command, with its help, its example and its options."""
    parts = [INTRODUCTION, "| command | |\n|---|---|"]
    parts[1] += "".join(f"\n| [`{name}`](#{anchor(name)}) | {_line(one)} |" for name, one, _ in every_command() if one)
    parts += [_section(name, command, context) for name, command, context in every_command()]
    return "\n\n".join(parts) + "\n"


def every_command() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command that can be called, with its name and context: ``kubeflow submit`` and the like too."""
    yield from _below(group, click.Context(group, info_name="autotag"), "")


def _below(
    command: click.Group, context: click.Context, before: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        inner = click.Context(found, info_name=name, parent=context)
        if isinstance(found, click.Group):
            yield from _below(found, inner, f"{before}{name} ")
        else:
            yield f"{before}{name}", found, inner


def anchor(name: str) -> str:
    """Return a command's place on the page."""
    return f"autotag-{name.replace(' ', '-')}"


def _line(command: click.Command) -> str:
    return command.get_short_help_str(limit=200).replace("|", "\\|")


def _section(name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## autotag {name} {{#{anchor(name)}}}", f"```text\n{usage}\n```", *_help(command)]
    options = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if options:
        parts.append(
            "| option | |\n|---|---|" + "".join(f"\n| {_names(names)} | {_cell(text)} |" for names, text in options)
        )
    return "\n\n".join(parts)


def _help(command: click.Command) -> Iterator[str]:
    r"""Yield the help's paragraphs; what stands behind ``\b`` is an example and keeps its lines."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if not paragraph.startswith("\b"):
            yield _plain(" ".join(paragraph.split()))
            continue
        title, *lines = paragraph.removeprefix("\b\n").splitlines()
        body = inspect.cleandoc("\n".join(lines))
        yield f"{_plain(title)}\n\n```bash\n{body}\n```"


def _names(names: str) -> str:
    return f"`{names}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return text in which what is no code is no Markdown either."""
    outside = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in outside)
