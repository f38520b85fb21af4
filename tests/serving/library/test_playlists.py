from __future__ import annotations

import os
from pathlib import Path

import pytest

from preprocessing.errors import BadInputError
from serving.library.playlists import Entry, m3u


def test_odd_names_stand_byte_for_byte() -> None:
    name = os.fsdecode(b"/music/caf\xe9/\xc3\xa4 song.mp3")
    assert m3u([Entry(Path(name), 61.6)]) == b"#EXTM3U\n#EXTINF:62,\xc3\xa4 song\n/music/caf\xe9/\xc3\xa4 song.mp3\n"


def test_paths_are_seen_from_the_playlists_folder() -> None:
    entries = [Entry(Path("/music/a/b.mp3"), 1), Entry(Path("/other/c.mp3"), 2)]
    assert m3u(entries, Path("/music/lists")).splitlines()[2::2] == [b"../a/b.mp3", b"../../other/c.mp3"]


def test_a_name_that_would_be_a_comment_is_no_comment() -> None:
    assert m3u([Entry(Path("/m/#1.mp3"), 1)], Path("/m")).splitlines()[2] == b"./#1.mp3"


def test_a_name_with_a_line_break_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"b\\nd\.mp3 has a line break in its name"):
        m3u([Entry(Path("/m/b\nd.mp3"), 1)])


def test_an_empty_playlist_is_one() -> None:
    assert m3u([]) == b"#EXTM3U\n"
