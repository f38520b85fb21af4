"""What was written is taken back: fields hold again what they held, whatever happened in between."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
from dressed_songs import FORMATS, audio_bytes, song
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC
from mutagen.id3 import ID3

from preprocessing.errors import BadInputError
from serving.tagging import writing
from serving.tagging.file_tags import read_fields, write_fields
from serving.tagging.journal import JOURNAL_NAME, Journal, find_journal, journal_for, read_journal
from serving.tagging.mapping import FieldMapping, FieldRule
from serving.tagging.tagged_files import Selection, TaggedFile
from serving.tagging.undo import plan_undo, take_back
from serving.tagging.undo_output import take_back_all
from serving.tagging.writing import FileWriter, WriteChoices, Writing

FIELDS = ("genre", "mood", "grouping", "comment", "AUTOTAG", "AUTOTAG_MODEL", "AUTOTAG_FIELDS")
PLACES = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
"""Where modules of tests are."""
ADD = FieldMapping({name: FieldRule(mode="add") for name in ("genre", "mood", "grouping", "comment")})


def heard(path: Path, *tags: str, model: str = "m") -> TaggedFile:
    known = (*tags, "not heard")
    probabilities = np.float32([*np.linspace(0.9, 0.6, len(tags)), 0.1])
    return TaggedFile(
        path=path,
        seconds=1.0,
        tags=known,
        thresholds=np.full(len(known), 0.5, np.float32),
        probabilities=probabilities,
        starts=np.zeros(1),
        window_probabilities=probabilities[None],
        model=model,
        source=model,
    )


def write(
    path: Path, *tags: str, mapping: FieldMapping | None = ADD, named: Sequence[Path] = (), model: str = "m"
) -> Writing:
    file = heard(path, *tags, model=model)
    return FileWriter(WriteChoices(mapping=mapping), named).write(file, file.select(Selection("model")), model)


def undo(
    *paths: Path, all_runs: bool = False, dry_run: bool = False, form: Any = "json"
) -> tuple[bool, str, list[str]]:
    stream, said = io.StringIO(), list[str]()
    complete = take_back_all([str(path) for path in paths], [], all_runs, dry_run, form, stream, said.append)
    return complete, stream.getvalue(), said


def held(path: Path, *fields: str) -> dict[str, tuple[str, ...]]:
    return {name: one.values for name, one in read_fields(path, fields or FIELDS).items()}


def everything(path: Path) -> dict[str, str]:
    """All tags and pictures of a file."""
    file: Any = mutagen.File(path)
    tags = {str(key): repr(file.tags[key]) for key in (file.tags.keys() if file.tags is not None else [])}
    return tags | ({"pictures": repr([one.write() for one in file.pictures])} if isinstance(file, FLAC) else {})


@pytest.mark.parametrize("name", FORMATS)
def test_undo_after_writing_leaves_every_tag_and_the_audio_as_before(tmp_path: Path, name: str) -> None:
    path = song(tmp_path / f"a.{name}")
    write_fields(path, {"genre": ("Folk",), "comment": ("mine",)})
    before, tags, audio = held(path), everything(path), audio_bytes(path)

    written = write(path, "rock", "pop")
    assert written.done
    now = held(path)
    assert now["AUTOTAG"] == ("rock", "pop")
    assert now["comment"] == ("mine, rock, pop",)
    assert now["genre"] == (("Folk/rock/pop",) if "id3v23" in name else ("Folk", "rock", "pop"))
    assert now["mood"] == (("a/b/rock/pop",) if "id3v23" in name else ("a", "b", "rock", "pop"))
    assert audio_bytes(path) == audio

    assert undo(path)[0]
    assert held(path) == before
    assert everything(path) == tags
    assert audio_bytes(path) == audio


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("undone")
    return {name: song(folder / f"a.{name}", 0.1) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    theirs=st.fixed_dictionaries({field: st.lists(texts, max_size=2).map(tuple) for field in ("genre", "mood")}),
    comment=st.lists(texts, max_size=1).map(tuple),
    runs=st.lists(
        st.tuples(st.sampled_from(["fill", "add", "replace"]), st.lists(texts, max_size=3, unique=True)),
        min_size=1,
        max_size=3,
    ),
)
def test_undoing_all_runs_gives_what_was_before_the_first(
    songs: dict[str, Path], name: str, theirs: dict[str, Any], comment: Any, runs: list[tuple[Any, list[str]]]
) -> None:
    path = songs[name]
    write_fields(path, {**theirs, "comment": comment, "grouping": (), **dict.fromkeys(FIELDS[4:], ())})
    (path.parent / JOURNAL_NAME).unlink(missing_ok=True)
    states = [held(path)]
    for number, (mode, tags) in enumerate(runs):
        mapping = FieldMapping({field: FieldRule(mode=mode) for field in FIELDS[:4]})
        assert write(path, *tags, mapping=mapping if tags else None, model=f"m{number}").done
        states.append(held(path))
    assert undo(path)[0]
    assert held(path) == states[-2]
    if len(runs) > 1:
        assert undo(path, all_runs=True)[0]
    assert held(path) == states[0]
    with pytest.raises(BadInputError, match="nothing to take back"):
        undo(path)


def test_field_that_somebody_changed_since_stays_and_is_said(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac")
    write(path, "rock")
    write_fields(path, {"genre": ("Post-Rock",)})
    complete, out, said = undo(path)
    assert not complete
    assert held(path)["genre"] == ("Post-Rock",)
    assert held(path)["AUTOTAG"] == ()
    assert held(path)["mood"] == ("a", "b")
    assert any("genre was changed since and stays as it is" in line for line in said)
    line = json.loads(out)
    assert line["left"] == {"genre": {"before": ["rock"], "after": ["Post-Rock"]}}
    assert "genre" not in line["fields"]


def test_newest_run_goes_first_and_earlier_ones_are_told_of(tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.mp3"), song(tmp_path / "b.flac")
    for path in (one, two):
        write(path, "rock", named=[tmp_path])
    write(one, "jazz", named=[tmp_path])
    _, out, said = undo(tmp_path)
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(one)]
    assert said == ["1 of 1 changes undone; other runs that can be undone: 2"]
    assert (held(one)["genre"], held(two)["genre"]) == (("rock",), ("rock",))
    undo(tmp_path, all_runs=True)
    assert (held(one)["genre"], held(two)["genre"]) == ((), ())


def test_runs_at_once_are_taken_back_file_by_file_in_the_order_in_which_they_wrote(tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.mp3", 0.1), song(tmp_path / "b.flac", 0.1)
    first, second = (FileWriter(WriteChoices(mapping=ADD), [tmp_path]) for _ in range(2))
    for writer, path, tag in ((second, one, "jazz"), (first, one, "rock"), (first, two, "rock"), (second, two, "jazz")):
        assert writer.write(heard(path, tag), [(tag, 0.9)], tag).done
    complete, _, said = undo(tmp_path)
    assert not complete
    assert "was written again since" in said[0]
    assert (held(one)["genre"], held(two)["genre"]) == (("rock",), ("rock",))
    assert undo(tmp_path)[0]
    assert (held(one)["genre"], held(two)["genre"]) == (("jazz",), ())
    assert undo(tmp_path)[0]
    assert held(one)["genre"] == ()


def test_undo_of_one_file_leaves_the_others(tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.mp3"), song(tmp_path / "b.flac")
    write(one, "rock", named=[tmp_path])
    write(two, "rock", named=[tmp_path])
    assert undo(one)[0]
    assert (held(one)["genre"], held(two)["genre"]) == ((), ("rock",))


def test_dry_run_takes_nothing_back(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    _, out, said = undo(path, dry_run=True, form="csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["field"]: row["after"] for row in rows}["mood"] == "a; b"
    assert {row["state"] for row in rows} == {"would be undone"}
    assert said == ["1 of 1 changes would be undone"]
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_table_shows_each_field_before_and_after(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac")
    write(path, "rock")
    write_fields(path, {"comment": ("mine",)})
    _, out, _ = undo(path, form="table")
    shown = [line.split() for line in out.splitlines()]
    assert ["genre", "rock", "→", "-"] in shown
    assert ["mood", "a;", "b;", "rock", "→", "a;", "b"] in shown
    assert ["comment", "was", "changed", "since", "and", "stays:", "mine"] in shown
    assert "AUTOTAG_MODEL" not in out


def test_file_that_was_moved_is_found_by_its_bytes(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock", named=[tmp_path])
    write(path, "jazz", named=[tmp_path])
    (tmp_path / "new").mkdir()
    moved = path.rename(tmp_path / "new" / "b.mp3")
    assert undo(tmp_path)[0]
    assert held(moved)["genre"] == ("rock",)
    assert undo(tmp_path)[0]
    assert held(moved)["genre"] == ()


def test_library_is_moved_with_its_journal(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    path = song(tmp_path / "old" / "a.flac")
    write(path, "rock", named=[tmp_path / "old"])
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert undo(tmp_path / "new")[0]
    assert held(tmp_path / "new" / "a.flac")["genre"] == ()


def test_file_that_is_gone_is_said_and_does_not_hide_earlier_runs(tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.mp3"), song(tmp_path / "b.flac")
    write(two, "rock", named=[tmp_path])
    write(one, "rock", named=[tmp_path])
    one.unlink()
    assert undo(tmp_path)[0]
    assert held(two)["genre"] == ()
    complete, out, said = undo(tmp_path)
    assert not complete
    assert "not there any more" in json.loads(out)["error"]
    assert said[-1] == "0 of 1 changes undone"


def test_read_only_file_is_said_and_can_be_undone_later(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")
    path.chmod(0o444)
    complete, out, _ = undo(path)
    assert not complete
    assert json.loads(out)["error"] == "is read-only"
    path.chmod(0o644)
    assert undo(path)[0]
    assert held(path)["genre"] == ()


def test_journal_is_on_the_disk_before_the_file_is_changed(tmp_path: Path, monkeypatch: Any) -> None:
    path = song(tmp_path / "a.mp3")
    before = path.read_bytes()

    def killed(*_: Any) -> None:
        assert len(read_journal(tmp_path / JOURNAL_NAME).changes) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, "rock")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert undo(path)[0], "there is nothing to do, and it is done"
    assert path.read_bytes() == before


def test_undo_that_is_killed_before_it_is_written_down_is_done_again(tmp_path: Path, monkeypatch: Any) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_undone", killed)
        with pytest.raises(KeyboardInterrupt):
            undo(path)
    assert held(path)["genre"] == ()
    assert undo(path)[0]
    with pytest.raises(BadInputError, match="nothing to take back"):
        undo(path)


def test_line_that_a_killed_process_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")
    journal = tmp_path / JOURNAL_NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"run": "2026')
    write(path, "jazz")
    lines = journal.read_bytes().splitlines()
    assert journal.read_bytes().startswith(whole)
    assert [sorted(json.loads(line)["fields"]["genre"]["after"]) for line in lines] == [["rock"], ["jazz"]]


def test_damaged_line_is_named_and_the_others_are_undone(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")
    journal = tmp_path / JOURNAL_NAME
    journal.write_bytes(b"junk\n" + journal.read_bytes())
    complete, _, said = undo(path)
    assert not complete
    assert "is damaged in line 1" in said[0]
    assert held(path)["genre"] == ()


def test_nothing_is_written_where_there_can_be_no_journal(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    before = path.read_bytes()
    (tmp_path / JOURNAL_NAME).mkdir()
    written = write(path, "rock")
    assert written.failed is not None
    assert written.failed.error.kind == "unwritable"
    assert "journal" in written.error
    assert path.read_bytes() == before


def test_without_a_journal_that_is_said(tmp_path: Path) -> None:
    song(tmp_path / "a.mp3")
    with pytest.raises(BadInputError, match="no journal"):
        undo(tmp_path)


def test_name_that_is_no_text_is_undone(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n.flac"))
    song(tmp_path / "a.flac").rename(path)
    write(path, "rock", named=[tmp_path])
    assert undo(tmp_path)[0]
    assert held(path)["genre"] == ()


def test_journal_is_the_librarys_which_is_what_was_named_or_has_one_above(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = song(tmp_path / "a" / "b" / "c.flac", 0.1)
    assert find_journal(path) is None
    assert journal_for(path, []) == path.parent / JOURNAL_NAME
    assert journal_for(path, [path]) == path.parent / JOURNAL_NAME
    assert journal_for(path, [path.parent, tmp_path / "a"]) == tmp_path / "a" / JOURNAL_NAME
    write(path, "rock", named=[tmp_path / "a"])
    assert journal_for(path, [path.parent]) == tmp_path / "a" / JOURNAL_NAME
    assert undo(path)[0]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    names = [f"{number}.flac" for number in range(4)]
    for name in names:
        song(tmp_path / name, 0.1)
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; import test_undo as t\n"
        "for turn in range(3):\n"
        "    for name in sys.argv[5:]:\n"
        "        done = t.write(Path(sys.argv[3]) / name, f'{sys.argv[4]}{turn}', named=[Path(sys.argv[3])])\n"
        "        assert done.done, done.error\n"
    )
    calls = [
        subprocess.Popen([sys.executable, "-c", program, *PLACES, str(tmp_path), which, *names]) for which in ("a", "b")
    ]
    assert [call.wait(120) for call in calls] == [0, 0]
    assert len(read_journal(tmp_path / JOURNAL_NAME).changes) == 24
    complete, _, said = undo(tmp_path, all_runs=True)
    assert complete, said
    for name in names:
        assert held(tmp_path / name)["genre"] == ()
        assert held(tmp_path / name)["AUTOTAG"] == ()


def test_killed_writer_leaves_a_file_that_is_whole_and_can_be_undone(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac", 0.1)
    before = held(path)
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; import test_undo as t\n"
        "print('ready', flush=True)\n"
        "turn = 0\n"
        "while True:\n"
        "    t.write(Path(sys.argv[3]), f'tag{turn}'); turn += 1\n"
    )
    call = [sys.executable, "-c", program, *PLACES, str(path)]
    with subprocess.Popen(call, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.7)
        process.send_signal(signal.SIGKILL)
    assert audio_bytes(path)
    assert read_journal(tmp_path / JOURNAL_NAME).changes
    complete, _, said = undo(path, all_runs=True)
    assert complete, said
    assert held(path) == before


def test_another_mapping_takes_away_what_the_last_one_wrote(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac")
    write(path, "rock", mapping=FieldMapping({"genre": FieldRule(), "grouping": FieldRule()}))
    write(path, "rock", mapping=FieldMapping({"MINE": FieldRule()}))
    assert held(path, "genre", "grouping", "MINE") == {"genre": (), "grouping": (), "MINE": ("rock",)}


def test_rule_for_the_own_field_says_what_stands_there(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac")
    mapping = FieldMapping({"AUTOTAG": FieldRule(tags=("r*",), casing="title"), "genre": FieldRule()})
    write(path, "pop", "rock", mapping=mapping)
    assert held(path, "AUTOTAG", "genre") == {"AUTOTAG": ("Rock",), "genre": ("pop", "rock")}
    write(path, "pop", mapping=mapping)
    assert held(path, "AUTOTAG") == {"AUTOTAG": ()}


def test_two_links_to_a_library_are_one_library(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    path = song(tmp_path / "music" / "a.flac", 0.1)
    (tmp_path / "link").symlink_to(tmp_path / "music")
    write(tmp_path / "link" / "a.flac", "rock", named=[tmp_path / "link"])
    assert (tmp_path / "music" / JOURNAL_NAME).is_file()
    assert undo(tmp_path / "link")[0]
    assert held(path)["genre"] == ()


def test_plan_and_take_back_are_of_use_without_a_terminal(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    write(path, "rock")
    undoing = plan_undo([path], [tmp_path])
    (undone,) = [take_back(change) for change in undoing.changes]
    assert {one.field for one in undone.back} >= {"genre", "AUTOTAG"}
    assert ID3(path).getall("TCON") == []
    assert writing.OURS_SUFFIX == "_FIELDS"


def test_csv_of_a_name_with_a_carriage_return_is_one_row(tmp_path: Path) -> None:
    path = song(tmp_path / "a\rb.flac")
    write(path, "rock")
    _, out, _ = undo(path, form="csv")
    assert {row["file"] for row in csv.DictReader(io.StringIO(out, newline=""))} == {str(path)}
