"""Options of the commands that make an index or ask it, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.console.terminal import say
from preprocessing.names import escaped
from preprocessing.whole_files import write_whole
from serving.engines.runtimes import AUTO, EMBEDDING_ORDER
from serving.library.library import Library, Song
from serving.library.output import Form

Decorated = Callable[..., Any]


def index_option(function: Decorated) -> Decorated:
    """Add --index."""
    return click.option(
        "--index",
        "index_file",
        type=click.Path(exists=True, path_type=Path),
        metavar="FILE|DIR",
        help="The index, or the folder that it is of.  [default: of the folder here or above]",
    )(function)


def engine_option(function: Decorated) -> Decorated:
    """Add --engine: of those that give embeddings."""
    return click.option(
        "--engine",
        type=click.Choice([AUTO, *EMBEDDING_ORDER]),
        default=AUTO,
        show_default=True,
        help="What computes it.",
    )(function)


def form_options(function: Decorated) -> Decorated:
    """Add what the output is to be."""
    for option in (
        click.option("--absolute", is_flag=True, help="With --m3u: whole paths.  [default: as seen from the playlist]"),
        click.option(
            "--m3u",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Also write a playlist there.",
        ),
        click.option("-0", "--null", is_flag=True, help="With --paths: end them with NUL, for `xargs -0`."),
        click.option("--paths", is_flag=True, help="Print paths alone, one a line."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a song, one a line."),
    ):
        function = option(function)
    return function


def form_of(options: dict[str, Any]) -> Form:
    """Return the form of the output.

    Raises:
        click.UsageError: options do not go together.
    """
    if options["as_json"] and options["paths"]:
        raise click.UsageError("choose one of --json and --paths")
    if options["null"] and not options["paths"]:
        raise click.UsageError("-0 (--null) goes with --paths")
    if options["absolute"] and options["m3u"] is None:
        raise click.UsageError("--absolute goes with --m3u")
    return "json" if options["as_json"] else "null" if options["null"] else "paths" if options["paths"] else "table"


def write_playlist(library: Library, songs: Sequence[Song], options: dict[str, Any]) -> None:
    """Write the playlist that was asked for."""
    place: Path | None = options["m3u"]
    if place is None:
        return
    base = None if options["absolute"] else place.absolute().parent
    write_whole(place, library.playlist([song.path for song in songs], base))
    say(f"{escaped(place)}: {len(songs)} songs")
