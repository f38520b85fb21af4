"""How ``autotag similar`` and ``autotag search`` say what they found: a table, or JSON and paths for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

from preprocessing.names import escaped, keep_bytes, lossless
from serving.library.library import Match, Song
from serving.tagging.journal import within
from serving.tagging.output import DECIMALS, table_console, write_json_line

Form = Literal["table", "json", "paths", "null"]
SHOWN_TAGS: Final = 3


class SongOutput:
    """Writes songs on a stream.

    Args:
        stream: of text.
        form: a table; JSON, one object a line; a path a line; or paths that end with NUL.
        folder: where the songs lie.
        score: what a score is called.
    """

    def __init__(self, stream: IO[str], form: Form, folder: Path, score: str) -> None:
        self._stream, self._form, self._folder, self._score = stream, form, folder, score
        if form in ("paths", "null"):
            keep_bytes(stream)

    def matches(self, found: Sequence[Match]) -> None:
        """Write songs with their scores, in their order."""
        if self._form == "table":
            self._table([(f"{match.score:.3f}", match.song) for match in found])
            return
        for match in found:
            self._line(match.song, {self._score: round(match.score, DECIMALS)})

    def groups(self, groups: Sequence[Sequence[Song]]) -> None:
        """Write groups of songs, numbered from 1; between those in text is an empty line, as of paths."""
        for number, group in enumerate(groups, 1):
            if self._form == "table":
                self._table([(str(number), song) for song in group], "group")
            else:
                for song in group:
                    self._line(song, {"group": number})
            if self._form in ("table", "paths") and number < len(groups):
                self._stream.write("\n")

    def _line(self, song: Song, first: dict[str, Any]) -> None:
        path = shown_path(self._folder, song)
        if self._form == "json":
            tags = {tag: round(probability, DECIMALS) for tag, probability in song.tags}
            values = {
                "file": lossless(path),
                **first,
                "seconds": round(song.seconds, 3),
                "bytes": song.bytes,
                "tags": tags,
                "above": list(song.above),
            }
            write_json_line(self._stream, values)
        else:
            self._stream.write(path + ("\0" if self._form == "null" else "\n"))

    def _table(self, songs: Sequence[tuple[str, Song]], first: str | None = None) -> None:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        table.add_column(first or self._score, justify="right")
        table.add_column("length" if first is None else "length, size", justify="right", style="dim", no_wrap=True)
        table.add_column("tags", style="dim", no_wrap=True)
        table.add_column("file", overflow="fold")
        for value, song in songs:
            length = f"{int(song.seconds // 60)}:{int(song.seconds % 60):02d}"
            size = "" if first is None else f"  {song.bytes / 1e6:.1f} MB"
            tags = ", ".join(tag for tag, _ in song.tags[:SHOWN_TAGS])
            path = escape(escaped(shown_path(self._folder, song)))
            table.add_row(value, length + size, escape(escaped(tags)), path)
        table_console(self._stream).print(table)


def shown_path(folder: Path, song: Song) -> str:
    """Return a song's path as it can be opened from here: relative where it lies below the working folder."""
    path = os.path.abspath(os.path.join(os.fspath(folder), os.fsdecode(song.path.encode("utf-8", "surrogateescape"))))
    here = os.getcwd()
    return os.path.relpath(path, here) if within(path, here) else path
