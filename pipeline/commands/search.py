"""``autotag search``: the songs of an index that fit a query of tags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.console.library_options import form_of, form_options, index_option, write_playlist
from pipeline.console.terminal import check_output, say
from serving.library.library import Library
from serving.library.output import SongOutput
from serving.library.places import index_to_read


@click.command("search", short_help="Find songs by tags: piano, not vocal.")
@click.argument("query")
@index_option
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--all", "every", is_flag=True, help="All songs that fit.")
@form_options
def command(query: str, index_file: Path | None, top: int, every: bool, **options: Any) -> None:
    """Find the songs of an index that fit QUERY, those first that fit most clearly.

    A comma and `and` mean both, `or` one of them, `not` the opposite; parentheses group, quotes enclose names with such
    words in them. A tag counts from the model's threshold for it on; `piano > 0.5` asks for a probability of your own.
    The number is how clearly a song fits: 0.5 at the threshold, 1 for certain; of several tags the least one counts.

    \b
    Examples:
        autotag search "piano, not vocal" --index music
        autotag search "(rock or metal) and female vocal" --all --m3u loud.m3u8
        autotag search "ambient > 0.6, not drums" --json
        autotag search jazz --paths -0 | xargs -0 mpv --shuffle
    """
    form = form_of(options)
    check_output()
    with Library(index_to_read(index_file, Path())) as library:
        found = library.search(query, library.state().files if every else top)
        SongOutput(sys.stdout, form, library.folder, "fit").matches(found.matches)
        write_playlist(library, [match.song for match in found.matches], options)
    if not found.total:
        say("no song fits")
    elif found.total > len(found.matches):
        say(f"{len(found.matches)} of {found.total} songs that fit (--all shows every one)")
