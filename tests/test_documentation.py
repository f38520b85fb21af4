"""What README, docs/ and their like say: commands that autotag takes, settings that it reads, links that lead on."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from pipeline.cli import group

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "generated"
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "deploy/flink/README.md", "deploy/dataflow/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
COMMANDS = "docs/reference/commands.md"
"""Made when the documentation is built: the examples of each command's help."""


def made_pages(name: str) -> ModuleType:
    """One of the modules that make pages."""
    spec = importlib.util.spec_from_file_location(name, GENERATED / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def texts() -> Iterator[tuple[str, str]]:
    for name in DOCUMENTS:
        yield name, (ROOT / name).read_text(encoding="utf-8")
    yield COMMANDS, made_pages("command_pages").commands()


def blocks(*kinds: str) -> Iterator[tuple[str, str]]:
    """Each document's fenced blocks of these kinds."""
    for name, text in texts():
        for _, kind, block in re.findall(r"^([ ]*)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            if kind in kinds:
                yield name, block


def lines() -> Iterator[tuple[str, str]]:
    """Each document's commands, of several lines joined; without what is behind a pipe, && or >."""
    for name, block in blocks("", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" && |\|(?![a-z])| >>? (?=[~\w./-]+$)", line):
                yield name, re.sub(r"^\s*(?:\$ )?", "", part)


def commands() -> Iterator[tuple[str, str]]:
    for name, line in lines():
        found = re.match(r"(?:\S+ )?(?:\.venv/bin/)?autotag ([a-z].*)", line)
        if found and not line.startswith("autotag COMMAND"):
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
def test_command_is_taken_as_it_is_written(document: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, context, words = leaf(shlex.split(line, comments=True))
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            monkeypatch.setattr(parameter.type, "exists", False)  # a reader's file
    with context.scope(cleanup=False):
        beyond = command.parse_args(context, words)
    if line.startswith("preprocess "):
        from preprocessing.beam.options import parse_options
        from preprocessing.beam.settings import settings_of

        parse_options(settings_of(context.params, beyond).arguments())


def test_commands_are_found_in_the_documents() -> None:
    found = [document for document, _ in commands()]
    assert {"README.md", "docs/tutorial.md", "docs/how-to/runbook.md", "deploy/flink/README.md", COMMANDS} <= set(found)
    assert len(found) > 150


def test_readme_is_short_and_so_are_its_sentences() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    _, _, after = text.partition("</picture>")  # the opening says all at once
    prose = re.sub(r"^\|.*$", "", re.sub(r"```.*?```", "", after, flags=re.DOTALL), flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    paragraphs = re.split(r"\n\s*\n|\n- |\n#+ ", prose)
    sentences = [words for one in paragraphs for words in re.split(r"(?<=[.:!?])\s+(?=[A-Z*`\[])", one.strip())]
    assert max(len(sentence.split()) for sentence in sentences) <= 30


def test_targets_of_make_are_there() -> None:
    there = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {target for _, line in lines() if (target := re.match(r"make ([a-z][\w-]*)", line))}
    assert {match[1] for match in asked} <= there
    assert asked


def test_benchmarks_are_there_and_have_these_options() -> None:
    asked = [match for _, line in lines() if (match := re.match(r"\S*python -m benchmarks\.(\w+)(.*)", line))]
    for match in asked:
        source = (ROOT / "benchmarks" / f"{match[1]}.py").read_text(encoding="utf-8")
        for option in re.findall(r"(?<!\S)--[\w-]+", match[2].partition(" #")[0]):
            assert f'"{option}"' in source, match[0]
    assert len(asked) > 8


@pytest.mark.parametrize(("document", "block"), [pytest.param(*each, id=each[0]) for each in blocks("yaml")])
def test_settings_are_read_as_they_are_written(document: str, block: str) -> None:
    from pipeline.compare.config import ComparisonConfig
    from pipeline.settings.config import PipelineConfig
    from serving.tagging.mapping import FieldMapping

    values = yaml.safe_load(block)
    if values.keys() <= PipelineConfig.model_fields.keys():
        PipelineConfig.model_validate(values)
    elif values.keys() <= ComparisonConfig.model_fields.keys():
        ComparisonConfig.model_validate(values)
    elif values.keys() <= {"genre", "mood"}:
        FieldMapping.model_validate(values)
    else:
        assert all(isinstance(tags, list) for tags in values.values()), "synonyms, or which settings?"


@pytest.mark.parametrize(("document", "block"), [pytest.param(*each, id=each[0]) for each in blocks("python")])
def test_python_is_python(document: str, block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize("name", [*DOCUMENTS, "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    """In the repository itself, where there are no made pages: only docs/ may lead to these."""
    text = (ROOT / name).read_text(encoding="utf-8")
    made = {f"docs/{page}" for page in [*_hook().PAGES, *_hook().TEXTS.values()] if name.startswith("docs/")}
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        path = (ROOT / name).parent / link
        assert path.exists() or str(path.resolve().relative_to(ROOT)) in made, link


def _hook() -> ModuleType:
    sys.path.insert(0, str(GENERATED))
    try:
        return made_pages("hook")
    finally:
        sys.path.remove(str(GENERATED))


def test_every_setting_has_words() -> None:
    for page in (made_pages("settings_pages").configuration(), made_pages("settings_pages").comparisons()):
        without = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|  \|$", page.partition("## Recipes")[0], re.MULTILINE)
        assert not without


class Loaded(HTMLParser):
    """Addresses that a browser asks for by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses += [value for key in ("src", "srcset") if (value := values.get(key))]
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.addresses.append(str(values["href"]))


def test_documentation_is_built_without_a_dead_link_and_asks_no_other_host(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert not [address for address in loaded.addresses if re.match(r"(https?:)?//", address)], page
        if page.name != "404.html":  # it is shown at any address, and so names its files from the root
            assert all((page.parent / re.sub(r"[?#].*", "", address)).is_file() for address in loaded.addresses), page
