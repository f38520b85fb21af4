"""``autotag similar``: the songs of an index that sound like a file, or like one second of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.console import completion
from pipeline.console.library_options import engine_option, form_of, form_options, index_option, write_playlist
from pipeline.console.terminal import check_output, decoders_notes_hidden, quieten_tensorflow, say
from preprocessing.errors import BadInputError
from preprocessing.names import lossless
from serving.library.library import Library, Match
from serving.library.listening import SongListener, load_model, parse_second
from serving.library.output import SongOutput
from serving.library.places import index_to_read


class Second(click.ParamType):
    """Such as ``1:05``."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return parse_second(value)
        except BadInputError as error:
            self.fail(str(error), param, ctx)


@click.command("similar", short_help="Find songs that sound like a file, or like one second of it.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--at", type=Second(), help="Like what is heard around this second: 65, 1:05 or 1:02:30.")
@index_option
@click.option("--tags", default="", metavar="QUERY", help="Only songs that fit, as `autotag search` has it.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many.")
@click.option("--duplicates", is_flag=True, help="In place of FILE: all songs that are there more than once.")
@click.option(
    "--model",
    metavar="NAME|DIR",
    shell_complete=completion.models,
    help="Where the index's model is now.  [default: where it was]",
)
@engine_option
@form_options
def command(file: Path | None, **options: Any) -> None:
    """Find the songs of an index that sound most like FILE, which need not be in the index itself.

    The number is the cosine of the angle between embeddings: 1 for the same sound. The index is the one in FILE's
    folder or a folder above it, else in the working folder or above, unless --index names another. With --duplicates
    the songs are listed that are the same recording: other bitrates and formats, or some seconds cut off.

    \b
    Examples:
        autotag similar music/song.mp3
        autotag similar other/song.mp3 --index music --tags "piano, not vocal"
        autotag similar music/mix.mp3 --at 41:05 --m3u like-this.m3u8
        autotag similar --duplicates --index music
        autotag similar music/song.mp3 --paths -0 | xargs -0 mpv
    """
    if (file is None) != bool(options["duplicates"]):
        raise click.UsageError("Give either FILE or --duplicates")
    if options["duplicates"] and (options["at"] is not None or options["tags"] or options["m3u"]):
        raise click.UsageError("--at, --tags and --m3u go with FILE, not with --duplicates")
    check_output()
    with Library(_index(file, options["index_file"])) as library:
        output = SongOutput(sys.stdout, form_of(options), library.folder, "similarity")
        if file is None:
            groups = library.duplicates()
            output.groups(groups)
            if not groups:
                say("no song is there more than once")
            return
        found = _found(library, file, options)
        output.matches(found)
        if not found:
            say("no song fits")
        write_playlist(library, [match.song for match in found], options)


def _index(file: Path | None, given: Path | None) -> Path:
    if given is not None or file is None:
        return index_to_read(given, Path())
    try:
        return index_to_read(None, file.absolute().parent)
    except BadInputError:
        return index_to_read(None, Path())


def _found(library: Library, file: Path, options: dict[str, Any]) -> list[Match]:
    name = lossless(os.path.relpath(file.parent.resolve() / file.name, library.folder.resolve()))
    if options["at"] is None and library.is_current(name):
        return library.similar(name, options["top"], options["tags"])
    quieten_tensorflow()
    source = load_model(options["model"] or library.card.model, options["engine"], say)
    listener = SongListener(source, library.card, library.index)
    with decoders_notes_hidden():
        heard = listener.listen(file, options["at"])
    return library.similar_to(heard.embedding, options["top"], options["tags"], without=name)
