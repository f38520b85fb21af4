"""``autotag tag``: name what is heard in audio files, with the model that was pushed last."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from preprocessing.audio import AUDIO_SUFFIXES
from preprocessing.errors import BadInputError, ClipError
from serving.tagger import TaggedFile, Tagger

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
BAR_WIDTH: Final = 30


@click.command("tag", short_help="Name what is heard in audio files.")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_MODEL_DIR,
    show_default=True,
    help="A pushed model, or the folder of its versions (the newest is taken).",
)
@click.option("--top", default=10, show_default=True, type=click.IntRange(min=1), help="How many tags to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, one a line.")
def command(paths: tuple[Path, ...], model_dir: Path, top: int, as_json: bool) -> None:
    """Name what is heard in audio files, or in all those in a folder and below.

    Any format and length: of a file longer than 29.1 s the mean over windows of that length is shown. A file that
    cannot be decoded is reported and the others go on; the exit code is then 1.

    \b
    Example:
        autotag tag song.mp3
        autotag tag --top 3 --json album/ > tags.jsonl
    """
    files = list(find_audio(paths))
    quieten_tensorflow()
    tagger = Tagger(model_dir)
    show = print_json if as_json else print_table
    failed = 0
    for file in files:
        try:
            tagged = tagger.tag_file(file)
        except ClipError as error:
            click.echo(f"autotag: {file} was left out: {error}", err=True)
            failed += 1
        else:
            show(tagged, top)
    if failed:
        click.echo(f"autotag: {failed} of {len(files)} files could not be tagged", err=True)
        sys.exit(1)


def find_audio(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files given, and the audio files (by suffix) in the folders given and below, in order of their names.

    Raises:
        BadInputError: a folder has none.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())
        if not found:
            raise BadInputError(f"{path} has no audio files (looked for {', '.join(sorted(AUDIO_SUFFIXES))})")
        yield from found


def quieten_tensorflow() -> None:
    """Keep TensorFlow's start-up lines off the terminal, unless --verbose was given; before it is imported."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def print_json(tagged: TaggedFile, top: int) -> None:
    """Print one line: file, seconds, windows, and tags with their probability, the most probable first."""
    tags = [{"tag": tag, "probability": round(probability, 6)} for tag, probability in tagged.top(top)]
    line: dict[str, Any] = {
        "file": str(tagged.path),
        "seconds": round(tagged.seconds, 3),
        "windows": tagged.windows,
        "tags": tags,
    }
    click.echo(json.dumps(line, ensure_ascii=False))


def print_table(tagged: TaggedFile, top: int) -> None:
    """Print a table of tags, probabilities and bars."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{escape(str(tagged.path))}  [dim]{tagged.seconds:.1f} s[/dim]"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("tag")
    table.add_column("probability", justify="right")
    table.add_column("", no_wrap=True)
    for tag, probability in tagged.top(top):
        table.add_row(escape(tag), f"{probability:.3f}", "█" * round(BAR_WIDTH * probability))
    Console(highlight=False).print(table)
