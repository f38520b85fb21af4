"""``autotag index``: hear every file of a folder once and keep what a model says, for ``similar`` and ``search``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.commands.tag import DEFAULT_MODEL_DIR
from pipeline.console import completion
from pipeline.console.library_options import engine_option
from pipeline.console.terminal import (
    check_output,
    decoders_notes_hidden,
    print_json,
    progress_bar,
    quieten_tensorflow,
    say,
)
from preprocessing.errors import BadInputError
from preprocessing.names import escaped
from serving.library.index_file import IndexFile, begun
from serving.library.indexing import Choices, index_folder
from serving.library.listening import load_model
from serving.library.places import index_to_write
from serving.tagging.models import default_model


@click.command("index", short_help="Hear a folder's files once, to find songs by sound and tags.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--index",
    "index_file",
    type=click.Path(dir_okay=True, path_type=Path),
    metavar="FILE",
    help="Where the index goes.  [default: FOLDER/autotag-index.sqlite]",
)
@click.option(
    "--model",
    metavar="NAME|DIR",
    shell_complete=completion.models,
    help="A trained model that `autotag pretrained` lists, a pushed one, or the folder of its versions.  [default: the "
    "index's own, and of a new one as `autotag tag`]",
)
@engine_option
@click.option("--jobs", type=click.IntRange(min=1), help="Files decoded at a time.  [default: cores of this machine]")
@click.option("--retry", is_flag=True, help="Also files that failed before and have not changed since.")
@click.option("--anew", is_flag=True, help="Take nothing over; the old index stays until the new one is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(
    folder: Path,
    index_file: Path | None,
    model: str | None,
    engine: str,
    jobs: int | None,
    retry: bool,
    anew: bool,
    as_json: bool,
) -> None:
    """Hear every audio file in FOLDER and below, and keep what the model says of it in one file, the index.

    Call it again after changes: only new and changed files are heard, vanished ones go, moved ones are known by their
    content. A call that was stopped or killed is gone on with by the next one. What `autotag tag` takes is taken; a
    file that cannot be used is reported and the others go on; the exit code is then 1.

    \b
    Examples:
        autotag index music
        autotag index music --model my-run/pushed --index music.sqlite
        autotag index music --model musicnn-mtt --anew
        autotag search "piano, not vocal" --index music
        autotag similar music/song.mp3
    """
    if as_json:
        check_output()
    index = index_to_write(folder, index_file)
    quieten_tensorflow()
    source = load_model(model or _own_model(index, anew) or default_model(DEFAULT_MODEL_DIR), engine, say)
    with decoders_notes_hidden():
        summary = index_folder(folder, index, source, Choices(jobs, retry, anew), say, progress_bar)
    for line in summary.lines():
        say(line)
    if as_json:
        print_json(summary.to_json())
    else:
        click.echo(
            f"{escaped(index)}: {summary.indexed} files by {escaped(summary.model)} ({summary.heard} heard now, "
            f"{summary.unchanged} unchanged, {summary.moved} known by their content, {summary.vanished} gone)"
        )
    if not summary.all_well:
        sys.exit(1)


def _own_model(index: Path, anew: bool) -> str | None:
    """The model of the index that is there."""
    if not begun(index):
        return None
    try:
        with IndexFile.open(index) as file:
            return file.card.model
    except BadInputError:
        if anew:
            return None
        raise
