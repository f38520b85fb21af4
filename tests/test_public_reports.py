"""Inputs that public reports showed to fail, each as the right value: rows of the table of issue 12, by number.

The song is three parts of different pitch: what is heard of it is told by the parts that are heard. Reports are named
as project#number.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from song_files import (
    OPTIONS,
    RATE,
    SONG_SECONDS,
    as_wav,
    encoded_by_ffmpeg,
    needs_ffmpeg,
    part,
    part_as,
    parts_heard,
    song,
    song_as,
)

from pipeline.settings.config import load_config
from preprocessing.audio.loading import load_audio
from preprocessing.audio.samples import from_pcm, to_pcm
from preprocessing.audio.streams import open_audio
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import ClipError
from preprocessing.level import Level
from serving.tagging import session
from serving.tagging.session import Choices
from serving.tagging.sources import Answers
from serving.tagging.tagger import Tagger

Make = Callable[[], bytes]


def in_the_middle(put: bytes, lost: int = 0, kind: str = "mp3") -> Make:
    def make() -> bytes:
        data = song_as(kind)
        middle = len(data) // 2
        return data[:middle] + put + data[middle + lost :]

    return make


def with_frame_count(change: Callable[[int], int]) -> Make:
    def make() -> bytes:
        data = bytearray(song_as("mp3"))
        at = data.find(b"Info") + 8
        data[at : at + 4] = change(int.from_bytes(data[at : at + 4], "big")).to_bytes(4, "big")
        return bytes(data)

    return make


def joined(kind: str) -> Make:
    return lambda: b"".join(part_as(kind, number) for number in range(3))


def half(kind: str) -> Make:
    return lambda: song_as(kind)[: len(song_as(kind)) // 2]


def piped(kind: str) -> Make:
    return lambda: encoded_by_ffmpeg(as_wav(song()), OPTIONS[kind], to_pipe=True)


def id3_then_zeros() -> bytes:
    tag = song_as("mp3")
    size = 10 + int.from_bytes(tag[6:10], "big")
    return tag[:size] + bytes(20_000) + tag[size:]


JUNK = random.Random(1).randbytes

WHOLE: list[Any] = [
    pytest.param("1.mp3", in_the_middle(b"", 1), id="1 a byte lost (libsndfile#1001)"),
    pytest.param("1.mp3", in_the_middle(bytes(800)), id="1 800 zeros put in (python-soundfile#433)"),
    pytest.param("1.mp3", in_the_middle(JUNK(800)), id="1 800 bytes of junk put in (AudioMuse-AI#880)"),
    pytest.param("1.mp3", in_the_middle(bytes(20_000)), id="1 20,000 zeros put in"),
    pytest.param("2.mp3", joined("mp3"), id="2 three MP3s joined (MPD#1200)"),
    pytest.param("2.mp3", joined("cbr"), id="2 three MP3s without headers joined"),
    pytest.param("2.flac", joined("flac"), id="2 three FLACs joined"),
    pytest.param("2.ogg", joined("ogg"), id="2 three Ogg files joined"),
    pytest.param("2.opus", joined("opus"), id="2 three Opus files joined"),
    pytest.param("2.wav", joined("wav"), id="2 three WAVs joined"),
    pytest.param("2.aiff", joined("aiff"), id="2 three AIFFs joined"),
    pytest.param("2.m4a", joined("m4a"), id="2 three M4As joined"),
    pytest.param("2.aac", joined("aac"), id="2 three ADTS files joined"),
    pytest.param("2.mp3", with_frame_count(lambda count: count // 2), id="2 frame count halved (openreader#129)"),
    pytest.param("2.mp3", with_frame_count(lambda count: 1), id="2 frame count 1"),
    pytest.param("2.mp3", with_frame_count(lambda count: 3 * count), id="2 frame count trebled"),
    pytest.param("8.mp3", id3_then_zeros, id="8 zeros between ID3 and frames (AudioMuse-AI#880)"),
    pytest.param("8.mp3", lambda: JUNK(500) + song_as("cbr"), id="8 500 bytes of junk first"),
    pytest.param("8.flac", lambda: JUNK(500) + song_as("flac"), id="8 junk before a FLAC"),
    pytest.param("8.ogg", lambda: JUNK(500) + song_as("ogg"), id="8 junk before an Ogg file"),
    pytest.param("8.m4a", lambda: JUNK(500) + song_as("m4a"), id="8 junk before an M4A"),
    pytest.param("8.mp3", lambda: song_as("mp3")[:-150], id="8 cut inside the last frame (fma#36)"),
    pytest.param("8.mp3", lambda: song_as("cbr") + bytes(2_000), id="8 zeros at the end, no header"),
    pytest.param("9.mp3", lambda: song_as("m4a"), id="9 M4A named .mp3 (audacious#1422)"),
    pytest.param("9.aac", lambda: song_as("m4a"), id="9 M4A named .aac"),
    pytest.param("9.m4a", lambda: song_as("aac"), id="9 ADTS named .m4a (python-soundfile#424)"),
    pytest.param("9.m4a", lambda: song_as("webm"), id="9 WebM named .m4a"),
    pytest.param("9.oga", lambda: song_as("oga"), id="9 Ogg FLAC"),
    pytest.param("9.wav", lambda: song_as("mp3"), id="9 MP3 named .wav"),
    pytest.param("9.mp3", lambda: song_as("wma"), id="9 WMA named .mp3"),
    pytest.param("9.flac", lambda: song_as("opus"), id="9 Opus named .flac"),
    pytest.param("9", lambda: song_as("vbr"), id="9 no suffix at all"),
    pytest.param("15.wav", piped("wav"), id="15 piped WAV"),
    pytest.param("15.flac", piped("flac"), id="15 piped FLAC"),
]  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize(("name", "make"), WHOLE)
def test_whole_song_is_heard(tmp_path: Path, name: str, make: Make) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    with open_audio(path) as stream:
        samples = np.concatenate(list(stream.blocks))
    assert stream.heard.complete, stream.heard.shortfall
    assert len(samples) / 16_000 == pytest.approx(SONG_SECONDS, abs=0.3)
    assert parts_heard(samples) == [0, 1, 2]
    np.testing.assert_allclose(load_audio(path.read_bytes()), samples, atol=1e-6)


@needs_ffmpeg
@pytest.mark.parametrize(("name", "make"), WHOLE)
def test_without_ffmpeg_whole_or_the_shortfall_or_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Make
) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        with open_audio(path) as stream:
            samples = np.concatenate(list(stream.blocks))
    except ClipError as error:
        kind = error.kind
    else:
        kind = ""
    if kind:
        assert kind == "needs_ffmpeg"
    elif stream.heard.complete:
        assert parts_heard(samples) == [0, 1, 2]
    else:
        assert stream.heard.seconds < SONG_SECONDS
        assert stream.heard.shortfall.startswith(f"{stream.heard.seconds:.1f} ")


class ByPitch:
    """Hears which of the song's parts are in a window."""

    calls_at_once = 1
    clip = ClipFormat(16_000, 16_000)
    name = "by pitch"
    tags: tuple[str, ...] | None = ("first", "second", "third")

    def identity(self) -> str:
        return "by pitch 1"

    def answer(self, windows: Any) -> Answers:
        rows = np.zeros((len(windows), 3), np.float32)
        for row, window in zip(rows, windows, strict=True):
            row[parts_heard(window)] = 1
        assert self.tags is not None
        return Answers(self.tags, np.full(3, 0.25, np.float32), rows, self.identity())


def tagged(path: Path, form: str) -> tuple[str, list[str], session.Tally]:
    stream, said = io.StringIO(), list[str]()
    choices, source = Choices(form=form), ByPitch()  # type: ignore[arg-type]
    work = session.plan([str(path)], choices, [source.name])
    tally = session.run(work, choices, [source], stream, said.append)
    return stream.getvalue(), [*said, *session.summarise(work, choices, tally)], tally


HALVES: list[Any] = [
    pytest.param("half.mp3", half("mp3"), "7.5 of 15.0 s", id="3 MP3"),
    pytest.param("half.mp3", half("vbr"), "7.. of 15.0 s", id="3 VBR MP3"),
    pytest.param("half.wav", half("wav"), "7.5 of 15.0 s", id="3 WAV"),
    pytest.param("half.aiff", half("aiff"), "7.5 of 15.0 s", id="3 AIFF"),
    pytest.param("half.flac", half("flac"), "[78].. of 15.0 s", id="3 FLAC"),
    pytest.param("half.opus", half("opus"), "7.. s of an unknown length.*", id="3 Opus"),
    pytest.param("half.ogg", half("ogg"), "[67].. s of an unknown length.*", id="3 Ogg"),
    pytest.param("half.m4a", half("faststart"), "7.. of 15.0 s", id="3 M4A"),
]  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize(("name", "make", "words"), HALVES)
def test_half_of_a_file_is_tagged_with_the_word_in_every_form(
    tmp_path: Path, name: str, make: Make, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(make())

    text, said, tally = tagged(path, "json")
    (line,) = [json.loads(line) for line in text.splitlines()]
    assert line["complete"] is False
    assert {entry["tag"] for entry in line["tags"] if entry["above_threshold"]} == {"first", "second"}
    assert re.fullmatch(words, line["shortfall"])
    assert line["claimed_seconds"] is None or line["claimed_seconds"] == pytest.approx(SONG_SECONDS, abs=0.1)
    assert said == [f"{path} was not heard whole: {line['shortfall']}", "1 of 1 files were not heard whole"]
    assert (tally.incomplete, tally.failed) == (1, 0)

    text, _, _ = tagged(path, "csv")
    (row,) = list(csv.DictReader(io.StringIO(text)))
    assert (row["shortfall"], row["error"]) == (line["shortfall"], "")
    text, _, _ = tagged(path, "table")
    assert f"only {line['shortfall']}" in text


@needs_ffmpeg
@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_healthy_file_gets_no_word(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(song_as(kind))
    text, said, tally = tagged(path, "json")
    line = json.loads(text)
    assert (line["complete"], "shortfall" in line, said, tally.incomplete) == (True, False, [], 0)
    assert len(line["tags"]) == 3


def test_5_opposite_channels_are_heard_as_one_of_them() -> None:
    one = song()[:, :1]
    opposite = as_wav(np.hstack([one, -one]), "FLOAT")
    np.testing.assert_allclose(load_audio(opposite), load_audio(as_wav(one, "FLOAT")), atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "words"), [(32_768, "divide by 32,768"), (8_388_608, "divide by 8,388,608"), (5, "")]
)
def test_6_samples_beyond_full_scale_are_refused_in_every_form(tmp_path: Path, scale: float, words: str) -> None:
    path = tmp_path / "loud.wav"
    samples = part(0) / np.abs(part(0)).max()
    path.write_bytes(as_wav(scale * samples, "FLOAT"))

    with pytest.raises(ClipError, match=words) as caught:
        load_audio(path.read_bytes())
    assert caught.value.kind == "beyond_full_scale"
    text, said, tally = tagged(path, "json")
    line = json.loads(text)
    assert (line["kind"], tally.failed) == ("beyond_full_scale", 1)
    assert words in line["error"]
    assert words in said[0]
    text, _, _ = tagged(path, "csv")
    assert "beyond_full_scale" in text


def test_6_overshoot_is_no_fault() -> None:
    samples = part(0) / np.abs(part(0)).max()
    assert np.abs(load_audio(as_wav(1.6 * samples, "FLOAT"), sample_rate=RATE)).max() > 1.2


class Paper:
    """The mean of the paper's three networks, untrained."""

    calls_at_once = 1
    clip = PAPER_CLIP
    name = "paper"
    tags: tuple[str, ...] | None = ("first", "second", "third")

    def __init__(self, level: Level) -> None:
        from exported_model import untrained_ensemble

        from models.heads import Heads
        from serving.graph.ensemble import Ensemble

        made = untrained_ensemble(("mel_1d", "mel_2d", "waveform_1d"), Heads.of_tags(3), combiner="mean")
        members = [dataclasses.replace(member, level=level) for member in made.members]
        self._ensemble = Ensemble(members, made.combiner, made.heads, combiner_kind="mean")

    def identity(self) -> str:
        return self.name

    def answer(self, windows: Any) -> Answers:
        assert self.tags is not None
        rows = np.asarray(self._ensemble.from_waveform(from_pcm(to_pcm(windows))))
        return Answers(self.tags, np.full(3, 0.5, np.float32), rows, self.identity())


def furthest_tag(source: Any, folder: Path, given: Level = "as_is") -> float:
    """How far a tag moves at most where the song is turned down by 20 dB."""
    (folder / "song.wav").write_bytes(as_wav(song()))
    (folder / "quiet.wav").write_bytes(as_wav(np.float32(0.1) * song()))
    tagger = Tagger(source, level=given)
    whole, quiet = (tagger.tag_file(folder / name).probabilities for name in ("song.wav", "quiet.wav"))
    return float(np.abs(quiet - whole).max())


def test_7_tags_of_the_papers_networks_stay_where_a_song_is_turned_down(tmp_path: Path) -> None:
    assert furthest_tag(Paper("rms"), tmp_path) < 0.1


def test_7_networks_that_hear_windows_as_they_are_can_be_given_them_at_one_level(tmp_path: Path) -> None:
    source = Paper("as_is")
    assert furthest_tag(source, tmp_path) > 0.1, "nothing is shown unless the level is heard"
    assert furthest_tag(source, tmp_path, "rms") < 0.1


READY_MADE = sorted(
    path for path in Path("pipeline/configs").glob("*.yaml") if "mel_1d" in path.read_text(encoding="utf-8")
)
PAPERS = ("mel_1d", "mel_2d", "waveform_1d")


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_7_ready_made_configurations_have_the_papers_networks_hear_one_level(path: Path) -> None:
    levels = {name: settings.level for name, settings in load_config(str(path)).networks.items() if name in PAPERS}
    assert "mel_1d" in levels
    assert levels == dict.fromkeys(levels, "rms")
