"""A folder of any audio with a table: every harmless way to write it is read the same, the rest refused by line."""

from __future__ import annotations

import contextlib

import pytest
from audio_samples import encoded, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.reading import load_tags, read_manifest
from datasets.table import parse_column, parse_table
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.settings import PreprocessSettings

ONE_HOT = "path,rock,slow piano\nx/01.mp3,1,0\ny/01.mp3,1,1\n"
LIST = "path,tags\nx/01.mp3,rock\ny/01.mp3,rock|slow piano\n"
CLIPS = [
    AnnotatedClip("x/01.mp3", "x/01.mp3", ("rock",), "x/01"),
    AnnotatedClip("y/01.mp3", "y/01.mp3", ("rock", "slow piano"), "y/01"),
]


def parse(text: str, *columns: str) -> list[AnnotatedClip]:
    return parse_table(text.encode(), "own.csv", [parse_column(column) for column in columns])


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        pytest.param(ONE_HOT, (), id="a column a tag"),
        pytest.param(ONE_HOT.replace(",", "\t"), (), id="tabs"),
        pytest.param(ONE_HOT.replace(",", ";"), (), id="semicolons"),
        pytest.param("\ufeff" + ONE_HOT, (), id="byte order mark"),
        pytest.param(ONE_HOT.replace("\n", "\r\n"), (), id="Windows line ends"),
        pytest.param(ONE_HOT.replace("path", "File", 1), (), id="column called File"),
        pytest.param(ONE_HOT.replace("path", "mp3_path", 1), (), id="column called mp3_path"),
        pytest.param(ONE_HOT.replace("path", "where it is", 1), ("path=where it is",), id="path column named"),
        pytest.param(
            "path,length,rock,slow piano\nx/01.mp3,3.5,1,0\ny/01.mp3,2,1,1\n",
            ("tag=rock", "tag=slow piano"),
            id="tag columns named",
        ),
        pytest.param(LIST, (), id="list of tags"),
        pytest.param(LIST.replace("|", ";"), (), id="list with semicolons"),
        pytest.param(LIST.replace("rock|slow piano", '" rock, slow piano,rock"'), (), id="list with commas"),
        pytest.param(LIST.replace(",", ";").replace("|", ","), (), id="list with commas between semicolons"),
        pytest.param(LIST.replace("tags", "genres"), ("tags=genres",), id="column of lists named"),
        pytest.param("year,path,tags\n1,x/01.mp3,rock\n2,y/01.mp3,rock|slow piano\n", (), id="further columns"),
    ],
)
def test_every_harmless_way_to_write_it_is_read_the_same(text, columns):
    assert parse(text, *columns) == CLIPS


def test_all_roles_are_read():
    text = (
        "clip_id\tpath\tTrack\tartist\tsplit\tstart\tseconds\ttags\n"
        "a\tx.wav\tone\tA\tvalidation\t10\t20.5\tü;v\nb\tx.wav\t\t\t\t\t\t\n"
    )
    assert parse(text) == [
        AnnotatedClip("a", "x.wav", ("ü", "v"), "one", "A", "valid", 10.0, 20.5),
        AnnotatedClip("b", "x.wav", (), "x"),
    ]


def test_parts_of_one_file_without_ids_are_clips_of_their_own():
    clips = parse("path,start,tags\nx.wav,0,a\nx.wav,30,b\n")
    assert [(clip.clip_id, clip.track) for clip in clips] == [("x.wav@0", "x"), ("x.wav@30", "x")]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", (), "own.csv line 1: the file is empty"),
        ("path,tags\n", (), "own.csv: the table has a header and no clip"),
        ("name,tags\nx.mp3,a\n", (), "line 1: no column is called path, file, .*--column path=NAME; found name, tags"),
        ("path,tags,tags\nx,a,b\n", (), "line 1: the column 'tags' stands there twice"),
        ("path\nx.mp3\n", (), "line 1: there is no tag column"),
        (LIST + "\nz.mp3\n", (), "line 5: 1 cells where the header has 2"),
        (LIST + "x/01.mp3,rock\n", (), "line 4: clip x/01.mp3 stands on line 2 already"),
        (ONE_HOT.replace("1,1", "1,yes"), (), "line 3: 'yes' for the tag 'slow piano'; expected 0 or 1"),
        (LIST.replace("y/01", "../01"), (), r"line 3: '\.\./01\.mp3' is no path inside the audio folder"),
        (LIST.replace("y/01.mp3", ""), (), "line 3: '' is no path"),
        ("path,split,tags\nx,holdout,a\n", (), "line 2: 'holdout' is no split; expected train, valid or test"),
        ("path,start,tags\nx,soon,a\n", (), "line 2: 'soon' for start; expected seconds"),
        ("path,seconds,tags\nx,0,a\n", (), "line 2: a clip of 0 seconds"),
        ("clip_id,path,tags\n,x,a\n", (), "line 2: no clip_id"),
        (LIST, ("path=song",), "line 1: there is no column 'song'; found path, tags"),
        (LIST, ("tags=tags", "tags=path"), "the role tags has the column 'tags' already"),
        ("path,tags,rock\nx,a,1\n", ("tags=tags", "tag=rock"), "give one with lists of tags"),
    ],
)
def test_bad_table_stops_with_the_line(text, columns, message):
    with pytest.raises(BadInputError, match=message):
        parse(text, *columns)


def test_text_that_is_not_utf_8_stops_with_the_line():
    with pytest.raises(BadInputError, match=r"own.csv line 2: not UTF-8 text \(byte 0xfc\)"):
        parse_table("path,tags\nx,ü\n".encode("latin-1"), "own.csv")


@pytest.mark.parametrize("text", ["path", "path=", "paths=x", "=x"])
def test_column_that_is_no_pair_of_role_and_name_is_refused(text):
    with pytest.raises(BadInputError, match="expected ROLE=NAME with one of the roles path, tags, id"):
        parse_column(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text('path,tgs;|\t"\n\r01\0ü', max_size=120).map(str.encode)))
def test_any_bytes_are_clips_or_bad_input(data):
    for content in (data, b"path,tags\n" + data):
        with contextlib.suppress(BadInputError):
            parse_table(content, "t")


def test_published_split_of_a_table_is_the_manifests(tmp_path):
    rows = ["path,split,tags"]
    for number, split in enumerate(["train", "train", "dev", "test"]):
        (tmp_path / f"{number}.wav").write_bytes(encoded(tone(0.2)))
        rows.append(f"{number}.wav,{split},rock")
    (tmp_path / "own.csv").write_text("\n".join(rows))
    choice = PreprocessSettings(split="published", n_tags=1, dataset="table")
    manifest = read_manifest(str(tmp_path), str(tmp_path / "own.csv"), choice)
    assert manifest.split_counts() == {"train": 2, "valid": 1, "test": 1}
    assert manifest.tags == ("rock",)


def test_table_has_no_published_list_of_tags_or_synonyms():
    with pytest.raises(BadInputError, match="no list is published for the data set 'table'"):
        load_tags("default", "table")
    assert load_tags("default", "mtat")[:2] == ("guitar", "classical")
