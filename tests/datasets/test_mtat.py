"""The annotation table: what is read, what is refused and with which line number; synonyms; the most frequent tags."""

from __future__ import annotations

import contextlib
import csv

import pytest
from audio_samples import MTAT, TAGS, annotation_rows, needs_mtat, table
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.mtat import ALL_TAGS, TOP_50, clip_of, parse_annotations
from datasets.reading import load_synonyms
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.tags import most_frequent_tags

ROWS = annotation_rows({"f/a-b-01-t-0-29.mp3": ["guitar", "techno"], "0/ü a-b-02-t-30-59.mp3": []})


def parse(text: str) -> list[AnnotatedClip]:
    return parse_annotations(text.encode(), "table.csv")


def test_table_gives_clips_with_their_tags_in_column_order():
    assert parse(table(ROWS)) == [
        clip_of("1", "f/a-b-01-t-0-29.mp3", ("guitar", "techno")),
        clip_of("2", "0/ü a-b-02-t-30-59.mp3", ()),
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeff" + table(ROWS), id="byte order mark"),
        pytest.param(table(ROWS).replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(table(ROWS).replace('"', ""), id="no quotes"),
        pytest.param(table(ROWS) + "\n\n", id="empty lines at the end"),
        pytest.param(table([[row[-1], *row[:-1]] for row in ROWS]), id="path column first"),
    ],
)
def test_harmless_variants_are_read_the_same(text):
    assert parse(text) == parse(table(ROWS))


def changed(line: int, cell: int, value: str) -> str:
    rows = [list(row) for row in ROWS]
    rows[line - 1][cell] = value
    return table(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 1: the file is empty", id="empty"),
        pytest.param(table(ROWS[:1]), "header and no clip", id="header alone"),
        pytest.param(table(ROWS).replace("\t", ","), "line 1: the columns are not separated by tabs", id="commas"),
        pytest.param(table(ROWS).replace("\t", ";"), "line 1: the columns are not separated by tabs", id="semicolons"),
        pytest.param(table(ROWS).replace("\t", ",").replace('"', ""), "not separated by tabs", id="commas, no quotes"),
        pytest.param(changed(1, 0, "id"), "line 1: the column 'clip_id' is missing", id="no clip_id"),
        pytest.param(changed(1, 4, "path"), "line 1: the column 'mp3_path' is missing", id="no mp3_path"),
        pytest.param(changed(1, 2, "guitar"), "line 1: the column 'guitar' stands there twice", id="column twice"),
        pytest.param(table([[row[0], row[-1]] for row in ROWS]), "line 1: there is no tag column", id="no tag column"),
        pytest.param(changed(3, 0, "1"), "line 3: clip 1 stands on line 2 already", id="duplicate id"),
        pytest.param(changed(3, 0, " "), "line 3: no clip_id", id="no id"),
        pytest.param(changed(3, 2, "2"), "line 3: '2' for the tag 'slow'; expected 0 or 1", id="bad cell"),
        pytest.param(changed(2, 3, ""), "line 2: '' for the tag 'techno'", id="empty cell"),
        pytest.param(table([*ROWS[:2], ROWS[2][:-1]]), "line 3: 4 cells where the header has 5", id="short row"),
        pytest.param(table([*ROWS, [*ROWS[2], "x"]]), "line 4: 6 cells where the header has 5", id="long row"),
        pytest.param(changed(2, 4, ""), "line 2: '' is no path", id="no path"),
        pytest.param(changed(2, 4, "../../etc/passwd"), "line 2: '../../etc/passwd' is no path", id="path out of it"),
        pytest.param(changed(2, 4, "/etc/passwd"), "line 2: '/etc/passwd' is no path", id="absolute path"),
        pytest.param(table(ROWS)[:-3], "line 3: ", id="cut in the middle of a line"),
    ],
)
def test_bad_table_stops_with_the_line(text, message):
    with pytest.raises(BadInputError) as caught:
        parse(text)
    assert str(caught.value).startswith("table.csv")
    assert message in str(caught.value)


def test_text_that_is_not_utf_8_stops_with_the_line():
    with pytest.raises(BadInputError, match=r"table.csv line 3: not UTF-8 text \(byte 0xfc\)"):
        parse_annotations(table(ROWS).encode("latin-1"), "table.csv")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_clips_or_bad_input(data):
    with contextlib.suppress(BadInputError):
        parse_annotations(data, "t")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='clip_dm3athx01"\t\n\r,;\0\ufeffü', max_size=150))
def test_any_table_like_text_is_clips_or_bad_input(text):
    for data in (text, "clip_id\tx\tmp3_path\n" + text):
        with contextlib.suppress(BadInputError):
            parse(data)


WORD = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8).map(str.strip).filter(bool)
FILE = WORD.filter(lambda word: not set(word) & {"/"} and word not in (".", ".."))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_generated_tables_are_read_back(data):
    tags = data.draw(st.lists(WORD.filter(lambda word: word not in ("clip_id", "mp3_path")), min_size=1, unique=True))
    ids = data.draw(st.lists(WORD, min_size=1, max_size=5, unique=True))
    clips = [
        clip_of(
            clip_id,
            f"{data.draw(FILE)}/{data.draw(FILE)}",
            tuple(tag for tag in tags if data.draw(st.booleans())),
        )
        for clip_id in ids
    ]
    rows = [["clip_id", *tags, "mp3_path"]]
    rows += [[clip.clip_id, *(str(int(tag in clip.tags)) for tag in tags), clip.path] for clip in clips]
    assert parse(table(rows)) == clips


@pytest.mark.parametrize(
    ("path", "track"),
    [
        ("e/joram-moments_of_clarity-08-solipsism-59-88.mp3", "joram-moments_of_clarity-08-solipsism"),
        ("e/joram-moments_of_clarity-08-solipsism-88-117.mp3", "joram-moments_of_clarity-08-solipsism"),
        ("my music/no segment.mp3", "my music/no segment"),
        ("flat.mp3", "flat"),
        ("0/à-b-01-c-0-29.flac", "à-b-01-c"),
        ("stems/ARTIST - SONG/mixture.flac", "stems/ARTIST - SONG/mixture"),
        ("Album/01.flac", "Album/01"),
        ("live-2019-01.flac", "live-2019-01"),
        ("Band - Best Of/Band-live-2019-01.flac", "Band - Best Of/Band-live-2019-01"),
        ("x/The Band-Hits-01-05.flac", "x/The Band-Hits-01-05"),
        ("x/01. Song", "x/01. Song"),
        ("x/.hidden", "x/.hidden"),
    ],
)
def test_track_is_the_name_without_its_segment(path, track):
    assert clip_of("1", path, ()).track == track


def test_files_of_one_name_in_two_folders_are_two_tracks():
    assert clip_of("1", "x/01.mp3", ()).track != clip_of("2", "y/01.mp3", ()).track


def test_default_synonyms_merge_the_players_spellings():
    synonyms = load_synonyms("default")
    assert synonyms["female vocal"] == synonyms["woman"] == "female"
    assert synonyms["beats"] == "beat"
    assert not set(synonyms) & set(synonyms.values())
    assert (len(synonyms), len(set(synonyms.values()))) == (54, 29)


@needs_mtat
def test_default_synonyms_are_real_tags():
    real = set((MTAT / "tags_188_csv_order.txt").read_text().splitlines())
    synonyms = load_synonyms("default")
    assert sorted(set(synonyms) - real) == []
    assert sorted(set(synonyms.values()) - real) == []


def test_synonyms_file_is_read_and_one_that_is_not_there_is_said(tmp_path):
    (tmp_path / "own.yaml").write_text("female: [woman]\n")
    assert load_synonyms(str(tmp_path / "own.yaml")) == {"woman": "female"}
    with pytest.raises(BadInputError, match=r"nowhere\.yaml: No such file"):
        load_synonyms("nowhere.yaml")


def mtat_table(name: str) -> list[AnnotatedClip]:
    """One of the label tables (comma separated, otherwise like the original) through our parser."""
    with open(MTAT / name, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:2] == ["clip_id", "mp3_path"]
    return parse(table([[row[0], *row[2:], row[1]] for row in rows]))


def published_counts(column: str) -> dict[str, int]:
    with open(MTAT / "top50_tag_counts.csv", newline="") as file:
        return {row["tag"]: int(row[column]) for row in csv.DictReader(file)}


@needs_mtat
def test_top_tags_of_all_clips_agree_with_the_published_counts():
    """All 25,858 clips, the 20 most frequent tags: the labels of the other 30 are to be had for folders c-f alone."""
    clips = mtat_table("labels_top20_all_25858.csv")
    published = published_counts("count_25858_clips")
    assert most_frequent_tags(clips, 20) == list(published)[:20]
    for tag in list(published)[:20]:
        assert sum(tag in clip.tags for clip in clips) == published[tag]


@needs_mtat
def test_all_50_tags_of_folders_c_to_f_agree_with_the_published_counts():
    clips = mtat_table("labels_top50_folders_cdef.csv")
    for column, folders in (("valid_folder_c", "c"), ("test_folders_def", "def")):
        published = published_counts(column)
        own = [clip for clip in clips if clip.folder in folders]
        counts = {tag: sum(tag in clip.tags for clip in own) for tag in published}
        assert counts == published
    assert set(most_frequent_tags(clips, 50)) == set(published)


@needs_mtat
def test_tracks_of_the_real_index_are_the_published_5405():
    with open(MTAT / "clips_index_25863.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    tracks = set()
    for row in rows:
        track = clip_of(row["clip_id"], row["mp3_path"], ()).track
        assert track == "-".join(row[key] for key in ("artist_slug", "album_slug", "track_no", "title_slug"))
        tracks.add(track)
    assert (len(rows), len(tracks)) == (25_863, 5_405)


@needs_mtat
def test_published_tags_are_the_published_ones_in_their_order():
    assert tuple((MTAT / "tags_188_csv_order.txt").read_text().splitlines()) == ALL_TAGS
    published = published_counts("count_25858_clips")
    assert set(TOP_50) == set(published)
    assert [published[tag] for tag in TOP_50] == sorted(published.values(), reverse=True)


@needs_mtat
def test_artists_of_the_real_index_are_read_off_the_names():
    with open(MTAT / "clips_index_25863.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {clip_of(row["clip_id"], row["mp3_path"], ()).artist for row in rows} == {row["artist_slug"] for row in rows}


def test_sample_rows_use_every_tag():
    assert ROWS[0] == ["clip_id", *TAGS, "mp3_path"]
