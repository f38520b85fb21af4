"""An output that is continued: what was done is not done again, and the end is that of an undisturbed call."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_model import write_audio

from preprocessing.audio.stretches import Stretch
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import lossless
from serving.tagging import session
from serving.tagging.resuming import SUFFIX, resumed
from serving.tagging.session import Choices
from serving.tagging.sources import Answers
from serving.tagging.tagged_files import Selection

STRANGE = os.fsdecode(b'c\xe9\n"quoted", #1.wav')


class Counting:
    """Says of every window how loud it is, and counts the windows."""

    calls_at_once = 1
    clip = PAPER_CLIP

    def __init__(self, name: str = "genres", version: int = 1, tags: tuple[str, ...] = ("rock", "slow")) -> None:
        self.name, self.tags = name, tags
        self.windows = 0
        self._version = version

    def identity(self) -> str:
        return f"{self.name} {self._version}"

    def answer(self, windows: Any) -> Answers:
        self.windows += len(windows)
        rows = np.repeat(np.abs(windows).mean(axis=1, dtype=np.float32)[:, None], len(self.tags), 1)
        return Answers(self.tags, np.full(len(self.tags), 0.5, np.float32), rows, self.identity())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three songs, one of them under a name of any bytes, one cut, and a file that is no audio."""
    folder = tmp_path / "album"
    folder.mkdir()
    write_audio(folder / "a.wav", 2)
    write_audio(folder / "b.flac", 3, 600)
    shutil.copy(folder / "a.wav", folder / STRANGE)
    data = (folder / "a.wav").read_bytes()
    (folder / "d.wav").write_bytes(data[: len(data) // 2])
    (folder / "e.mp3").write_bytes(bytes(50))
    return folder


def run(
    paths: list[Path], out: Path, form: Any = "json", *sources: Counting, **chosen: Any
) -> tuple[session.Tally, list[str]]:
    """Return what became of the files, and what is said."""
    choices = Choices(form=form, **chosen)
    work = session.plan([str(path) for path in paths], choices, [source.name for source in sources])
    said: list[str] = []
    missing = [failed.path for failed in work.missing]
    with resumed(out, form, work.files, missing, session.settings_of(sources, choices)) as earlier:
        tally = session.run(work, choices, sources, earlier.stream, said.append, None, earlier)
    return tally, [*said, *session.summarise(work, choices, tally)]


FORMS = pytest.mark.parametrize("form", ["json", "csv"])


def names(out: Path, form: str) -> list[str]:
    text = out.read_bytes().decode("utf-8", "surrogateescape")
    if form == "json":
        return [Path(json.loads(line)["file"]).name for line in text.splitlines()]
    return [Path(row["file"]).name for row in csv.DictReader(io.StringIO(text, newline=""))]


@FORMS
@pytest.mark.parametrize("models", [1, 2])
def test_output_that_was_cut_at_any_byte_ends_as_an_undisturbed_one(
    album: Path, tmp_path: Path, form: str, models: int
) -> None:
    paths = [album, tmp_path / "none.mp3"]

    def sources() -> list[Counting]:
        return [Counting(), Counting("moods", tags=("sad",))][:models]

    whole = tmp_path / "whole"
    undisturbed, words = run(paths, whole, form, *sources())
    data = whole.read_bytes()
    assert len(names(whole, form)) == 4 * models + 2
    assert not (tmp_path / f"whole{SUFFIX}").exists()
    cuts = sorted({*range(0, len(data), 97), *range(len(data) - 12, len(data) + 1)})
    fewer = set()
    for cut in cuts:
        out, used = tmp_path / "out", sources()
        (tmp_path / f"out{SUFFIX}").write_bytes(data[:cut])
        tally, said = run(paths, out, form, *used)
        assert out.read_bytes() == data, cut
        assert (tally.failed, tally.incomplete) == (undisturbed.failed, undisturbed.incomplete) == (2, 1)
        assert said[-2:] == words[-2:]
        fewer.add(used[0].windows)
        out.unlink()
    assert min(fewer) == 0
    assert max(fewer) == 4


@FORMS
def test_second_call_tags_what_is_new_or_changed_alone(album: Path, tmp_path: Path, form: str) -> None:
    out, source = tmp_path / "out", Counting()
    run([album], out, form, source)
    first = out.read_bytes()
    source.windows = 0
    tally, said = run([album], out, form, source)
    assert (source.windows, tally.skipped, out.read_bytes()) == (0, 4, first)
    assert "4 of 5 files were done already" in said

    write_audio(album / "b.flac", 5, 300)
    write_audio(album / "b2.wav", 1)
    tally, _ = run([album], out, form, source)
    assert (source.windows, tally.skipped) == (2, 3)
    assert names(out, form) == ["a.wav", "b.flac", "b2.wav", STRANGE, "d.wav", "e.mp3"]
    run([album], tmp_path / "anew", form, Counting())
    assert out.read_bytes() == (tmp_path / "anew").read_bytes()


@FORMS
def test_file_of_the_same_size_with_another_time_is_done_again(album: Path, tmp_path: Path, form: str) -> None:
    out, source = tmp_path / "out", Counting()
    run([album], out, form, source)
    os.utime(album / "a.wav", ns=(1, 1))
    source.windows = 0
    run([album], out, form, source)
    assert source.windows == 1


@FORMS
def test_rows_of_files_that_are_not_named_now_stay(album: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    run([album / "b.flac"], out, form, Counting())
    run([album / "a.wav"], out, form, Counting())
    assert names(out, form) == ["b.flac", "a.wav"]


def test_file_that_failed_is_tried_again(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([album], out, "json", Counting())
    shutil.copy(album / "b.flac", album / "e.mp3")
    tally, _ = run([album], out, "json", Counting())
    assert (tally.failed, tally.skipped) == (0, 4)
    assert "error" not in out.read_text()


@FORMS
@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        (Counting(version=2), {}),
        (Counting(), {"selection": Selection("model")}),
        (Counting(), {"hop_seconds": 10.0}),
        (Counting(), {"stretch": Stretch("middle", 60.0)}),
    ],
)
def test_output_of_another_model_or_other_settings_is_refused_and_kept(
    album: Path, tmp_path: Path, form: str, source: Counting, chosen: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    run([album], out, form, Counting())
    before = out.read_bytes()
    with pytest.raises(BadInputError, match=r"of another model or other settings: 'genres 1 hop=29.1 top=10'") as error:
        run([album], out, form, source, **chosen)
    assert "give another --out" in str(error.value)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out"]


@FORMS
def test_further_model_is_refused(album: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    run([album], out, form, Counting(), Counting("moods", tags=("sad",)))
    with pytest.raises(BadInputError, match="which is not asked now"):
        run([album], out, form, Counting())


@pytest.mark.parametrize(
    "data",
    [b"notes of mine\n", b"notes without an end", b'{"file": "a.wav", "model": "m", "tags": []}\n', b"[1]\n", b"\0" * 9,
     b"file,seconds,windows,tags,error\na.wav,1,1,,\n", b'"' * 300_000 + b"\n", b"[" * 100_000 + b"\n"],
)  # fmt: skip
@FORMS
@pytest.mark.parametrize("suffix", ["", SUFFIX])
def test_what_is_no_such_output_is_refused_and_kept(
    album: Path, tmp_path: Path, form: str, data: bytes, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match=r"out(\.part)? row 1 is none of `autotag tag --(json|csv) --resume`"):
        run([album], tmp_path / "out", form, Counting())
    assert path.read_bytes() == data


@FORMS
def test_other_form_is_refused(album: Path, tmp_path: Path, form: str) -> None:
    run([album], tmp_path / "out", form, Counting())
    with pytest.raises(BadInputError, match="row 1 is none of"):
        run([album], tmp_path / "out", "csv" if form == "json" else "json", Counting())


def test_one_call_writes_at_a_time(album: Path, tmp_path: Path) -> None:
    with resumed(tmp_path / "out", "json", [], [], {}), pytest.raises(BadInputError, match="another call of autotag"):
        run([album], tmp_path / "out", "json", Counting())


def test_link_stays_a_link(album: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "out").symlink_to("deep/out")
    run([album], tmp_path / "out", "json", Counting())
    assert (tmp_path / "out").is_symlink()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


class Failing(Counting):
    """Fails at the third window."""

    def answer(self, windows: Any) -> Answers:
        if self.windows >= 2:
            raise AutotagError("the server went away")
        return super().answer(windows)


@FORMS
def test_rows_before_a_failure_are_kept_and_resumed(album: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(AutotagError, match="went away"):
        run([album], out, form, Failing(), jobs=1)
    assert not out.exists()
    rows = names(tmp_path / f"out{SUFFIX}", form)
    assert rows == ["a.wav", "b.flac"][: len(rows)]
    source = Counting()
    tally, _ = run([album], out, form, source)
    assert tally.skipped == len(rows)
    run([album], tmp_path / "whole", form, Counting())
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_names_are_text_of_any_bytes(album: Path, tmp_path: Path) -> None:
    run([album], tmp_path / "out", "json", Counting())
    assert lossless(album / STRANGE) in [json.loads(line)["file"] for line in (tmp_path / "out").open()]
