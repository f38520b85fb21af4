from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from engine_model import EngineModel
from exported_model import TAGS, THRESHOLDS, Exported, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.loading import load_audio
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import CLIP_SAMPLES, CLIP_SECONDS, SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError, ClipError
from preprocessing.windows import window_count
from serving.model_info import Origin
from serving.model_versions import find_model
from serving.tagging.sources import WINDOWS_AT_ONCE, Answers, LocalModel
from serving.tagging.tagged_files import FailedFile, Selection, TaggedFile
from serving.tagging.tagger import WINDOWS_AHEAD, HeardWindows, Tagger
from serving.tagging.windowing import stream_windows, windows


@pytest.fixture(scope="module")
def tagger(exported: Exported) -> Tagger:
    return Tagger(exported.path.parent)


def soft(path: Path, clips: int) -> Path:
    """A square wave at -42 dBFS."""
    sf.write(path, np.tile(np.int16([256, -256]), clips * CLIP_SAMPLES // 2), SAMPLE_RATE)
    return path


SQUARE = np.float32([0.1, -0.1])


class Loudness:
    """Answers with a window's loudness, its peak and 0.5, and keeps what it was asked."""

    name = "loudness"
    calls_at_once = 1
    clip = PAPER_CLIP
    tags = ("loud", "peak", "half")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def identity(self) -> str:
        return "loudness"

    def answer(self, windows: Any) -> Answers:
        self.batches.append(len(windows))
        samples = windows
        columns = [np.sqrt((samples**2).mean(axis=1)), np.abs(samples).max(axis=1), np.full(len(samples), 0.5)]
        rows = np.stack(columns, 1).astype(np.float32)
        return Answers(self.tags, np.float32([0.1, 0.9, 0.5]), rows, self.identity())


def test_short_file_is_one_window_in_which_it_is_repeated() -> None:
    samples = tone(5)
    (window,) = windows(samples)
    np.testing.assert_array_equal(window, fit_clip(samples))
    np.testing.assert_array_equal(window[:80_000], window[80_000:160_000])


@pytest.mark.parametrize("extra", [0, 8_000, CLIP_SAMPLES - 1, CLIP_SAMPLES, 2 * CLIP_SAMPLES + 8_000])
def test_windows_of_a_longer_file_cover_it_and_the_last_ends_where_it_ends(extra: int) -> None:
    samples = np.arange(CLIP_SAMPLES + extra, dtype=np.float32)
    cut = windows(samples)
    assert {len(window) for window in cut} == {CLIP_SAMPLES}
    assert len(cut) == -(-len(samples) // CLIP_SAMPLES) == window_count(len(samples))
    np.testing.assert_array_equal(np.unique(np.concatenate(cut)), samples)


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("rest", [1, 1_600, 7_999])
def test_rest_of_less_than_half_a_second_gets_no_window_of_its_own(clips: int, rest: int) -> None:
    samples = np.arange(clips * CLIP_SAMPLES + rest, dtype=np.float32)
    cut = windows(samples)
    assert len(cut) == clips == window_count(len(samples))
    np.testing.assert_array_equal(np.concatenate(cut), samples[:-rest])


def test_long_file_has_the_mean_of_its_windows(tagger: Tagger) -> None:
    samples = tone(29.1 * 5 + 3, 300)
    one_by_one = [tagger.tag_samples(window) for window in windows(samples)]
    assert len(one_by_one) == 6
    np.testing.assert_allclose(tagger.tag_samples(samples), np.mean(one_by_one, axis=0), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    samples=st.one_of(st.integers(0, 3 * CLIP_SAMPLES), st.sampled_from([CLIP_SAMPLES, CLIP_SAMPLES + 1])),
    block=st.integers(1_000, 4 * CLIP_SAMPLES),
    hop=st.integers(20_000, CLIP_SAMPLES),
)
def test_windows_do_not_depend_on_the_blocks_and_cover_every_sample(samples: int, block: int, hop: int) -> None:
    song = np.arange(1, samples + 1, dtype=np.float32)
    cut = list(stream_windows((song[at : at + block] for at in range(0, samples, block)), hop))

    starts = [window.start for window in cut]
    assert starts[:-1] == [number * hop for number in range(len(cut) - 1)]
    assert starts[-1] <= (len(cut) - 1) * hop
    rest = samples - cut[-1].start - cut[-1].length
    assert 0 <= rest < 8_000
    covered = np.zeros(samples, dtype=bool)
    for window in cut:
        covered[window.start : window.start + window.length] = True
        assert window.samples.shape == (CLIP_SAMPLES,)
        np.testing.assert_array_equal(
            window.samples[: window.length], song[window.start : window.start + window.length]
        )
        np.testing.assert_array_equal(window.samples, fit_clip(window.samples[: window.length]))
    assert covered[: samples - rest].all()


@pytest.mark.parametrize("hop", [0, -1, CLIP_SAMPLES + 1])
def test_hop_that_would_leave_gaps_or_never_end_is_refused(hop: int) -> None:
    with pytest.raises(ValueError, match="hop"):
        list(stream_windows([], hop))
    with pytest.raises(BadInputError, match="hop"):
        Tagger(Loudness(), hop_seconds=hop / SAMPLE_RATE)


def test_song_has_the_mean_of_its_windows_and_keeps_each_with_its_start(tmp_path: Path) -> None:
    samples = np.concatenate([tone(40) * level for level in (0.1, 1.0, 0.3)])
    sf.write(tmp_path / "a.flac", samples, SAMPLE_RATE)
    tagged = Tagger(Loudness(), hop_seconds=10).tag_file(tmp_path / "a.flac")

    expected = [
        *(np.arange(10) * 10.0),
        120 - CLIP_SECONDS,
    ]
    np.testing.assert_allclose(tagged.starts, expected)
    assert tagged.seconds == 120
    stored = load_audio((tmp_path / "a.flac").read_bytes())
    for start, row in zip(tagged.starts, tagged.window_probabilities, strict=True):
        first = round(start * SAMPLE_RATE)
        assert row[1] == pytest.approx(np.abs(stored[first : first + CLIP_SAMPLES]).max())
    np.testing.assert_allclose(tagged.probabilities, tagged.window_probabilities.mean(axis=0), rtol=1e-6)


def test_batches_are_bounded_and_files_share_them(tmp_path: Path) -> None:
    paths = [write_audio(tmp_path / f"{number}.wav", 2 + number, 300 + number) for number in range(20)]
    source = Loudness()
    answers = list(Tagger(source, jobs=4).tag_files([*paths, soft(tmp_path / "long.wav", 30)]))

    assert [answer.path.name for answer in answers] == [*(f"{number}.wav" for number in range(20)), "long.wav"]
    assert max(source.batches) <= WINDOWS_AT_ONCE
    assert sum(source.batches) == 20 + 30
    for number, answer in enumerate(answers[:-1]):
        assert isinstance(answer, TaggedFile)
        assert answer.seconds == 2 + number
        (window,) = windows(load_audio(paths[number].read_bytes()))
        assert answer.probabilities[1] == pytest.approx(np.abs(window).max())


def test_decoding_waits_for_the_model_so_that_memory_stays_flat(tmp_path: Path) -> None:
    path = soft(tmp_path / "long.wav", 60)
    decoded: list[float] = []

    class Slow(Loudness):
        most_ahead = 0.0

        def answer(self, windows: Any) -> Answers:
            time.sleep(0.05)
            answers = super().answer(windows)
            self.most_ahead = max(self.most_ahead, decoded[-1] / CLIP_SECONDS - sum(self.batches[:-1]))
            return answers

    source = Slow()
    tagged = Tagger(source, jobs=1).tag_files([path], lambda _, seconds, claimed: decoded.append(seconds))
    assert next(tagged).windows == 60
    assert source.most_ahead <= WINDOWS_AHEAD + 2


def test_progress_tells_the_seconds_done_and_claimed(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.ogg", 70)
    told: list[tuple[Path, float, float | None]] = []
    list(Tagger(Loudness()).tag_files([path], lambda *arguments: told.append(arguments)))
    assert [done for _, done, _ in told] == pytest.approx([29.1, 58.2, 70], abs=0.01)
    assert {(file, claimed) for file, _, claimed in told} == {(path, 70.0)}


def test_windows_are_told_as_they_are_answered_each_once_and_in_order(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 29.1 * 20 + 3)
    told: list[HeardWindows] = []
    (tagged,) = Tagger(Loudness(), jobs=1).tag_files([path], on_answers=lambda _, heard: told.append(heard))
    assert isinstance(tagged, TaggedFile)
    assert len(told) > 2
    assert told[0].seconds < tagged.seconds / 2
    np.testing.assert_array_equal(np.concatenate([heard.starts for heard in told]), tagged.starts)
    rows = np.concatenate([heard.answers.probabilities for heard in told])
    np.testing.assert_array_equal(rows, tagged.window_probabilities)
    assert {round(heard.claimed or 0) for heard in told} == {585}


@pytest.mark.parametrize("heard", [(0, 1, 1, 0, 0, 1, 0), (0, 0), (1,), (1, 0, 0, 0)])
def test_silent_windows_are_told_with_those_that_are_heard(tmp_path: Path, heard: tuple[int, ...]) -> None:
    samples = np.concatenate([tone(29.1) * one for one in heard])
    sf.write(tmp_path / "a.flac", samples, SAMPLE_RATE)
    told: list[HeardWindows] = []
    (tagged,) = Tagger(Loudness()).tag_files([tmp_path / "a.flac"], on_answers=lambda _, new: told.append(new))
    assert isinstance(tagged, TaggedFile)
    assert np.concatenate([new.silent for new in told]).tolist() == [not one for one in heard]
    rows = np.concatenate([new.answers.probabilities for new in told])
    np.testing.assert_array_equal(rows, tagged.window_probabilities)
    assert all((row > 0).any() == bool(one) for row, one in zip(rows, heard, strict=True))


def test_what_is_told_can_end_the_call(tmp_path: Path) -> None:
    source = Loudness()

    def enough(path: Path, heard: HeardWindows) -> None:
        raise AutotagError("enough")

    with pytest.raises(AutotagError, match="enough"):
        list(Tagger(source, jobs=1).tag_files([soft(tmp_path / "long.wav", 100)], on_answers=enough))
    assert sum(source.batches) < 50


def test_broken_files_fail_alone_and_in_their_place(tmp_path: Path) -> None:
    flac = write_audio(tmp_path / "cut.flac", 100)
    flac.write_bytes(flac.read_bytes()[:100])
    paths = [write_audio(tmp_path / "a.wav", 3), flac, tmp_path / "none.wav", write_audio(tmp_path / "b.wav", 3)]
    answers = list(Tagger(Loudness()).tag_files(paths))
    assert [answer.path for answer in answers] == paths
    assert [answer.error.kind for answer in answers if isinstance(answer, FailedFile)] == ["undecodable", "unreadable"]


def test_server_that_does_not_answer_stops_all_with_its_error(tmp_path: Path) -> None:
    class Down(Loudness):
        def answer(self, windows: Any) -> Answers:
            raise AutotagError("nobody answers at localhost:8500")

    paths = [write_audio(tmp_path / f"{number}.wav", 3) for number in range(6)]
    with pytest.raises(AutotagError, match="nobody answers"):
        list(Tagger(Down()).tag_files(paths))


def test_closing_ends_the_threads_long_before_the_song_ends(tmp_path: Path) -> None:
    long = soft(tmp_path / "long.wav", 100)
    source = Loudness()
    before = threading.active_count()
    answers = Tagger(source, jobs=2).tag_files([write_audio(tmp_path / "a.wav", 1), long, long])
    next(answers)
    answers.close()
    assert threading.active_count() == before
    assert sum(source.batches) < 150


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), ["b", "a", "d", "c"]),
        (Selection(most=2), ["b", "a"]),
        (Selection(threshold="model"), ["a", "d"]),
        (Selection(threshold="model", most=1), ["a"]),
        (Selection(threshold=0.5), ["b", "a"]),
        (Selection(threshold=0.95), []),
    ],
)
def test_selection_is_by_threshold_and_number(selection: Selection, chosen: list[str]) -> None:
    probabilities = np.float32([0.5, 0.9, 0.1, 0.25])
    thresholds = np.float32([0.5, 0.91, 0.2, 0.2])
    tagged = TaggedFile(
        Path("a"), 1.0, ("a", "b", "c", "d"), thresholds, probabilities, np.zeros(1), probabilities[None], "m 1", "m"
    )
    assert [tag for tag, _ in tagged.select(selection)] == chosen
    assert tagged.above.tolist() == [True, False, False, True]


class Brief(Loudness):
    """A model of clips of 2 s at 8 kHz."""

    clip = ClipFormat(8_000, 16_000)

    def answer(self, windows: Any) -> Answers:
        assert windows.shape[1:] == (16_000,)
        return super().answer(windows)


def test_windows_are_as_long_as_the_models_clip_and_have_its_rate(tmp_path: Path) -> None:
    source = Brief()
    tagged = Tagger(source).tag_file(write_audio(tmp_path / "a.wav", 7))
    assert tagged.starts.tolist() == [0, 2, 4, 5]
    assert tagged.window_seconds == 2
    assert Tagger(source, hop_seconds=1).tag_file(tmp_path / "a.wav").windows == 6
    with pytest.raises(BadInputError, match=r"from 0\.1 to 2\.0 s, got 3"):
        Tagger(source, hop_seconds=3)


def test_identity_tells_models_apart_and_stays(exported: Exported, tmp_path: Path) -> None:
    identity = LocalModel(exported.path).identity()
    copied = Path(shutil.copytree(exported.path, tmp_path / "7"))
    assert LocalModel(copied).identity() == identity
    text = (copied / "model.json").read_text("utf-8")
    (copied / "model.json").write_text(text.replace("0.125", "0.375"), "utf-8")
    assert LocalModel(copied).identity() != identity


def test_identity_tells_what_computes(model: EngineModel) -> None:
    """Int8 weights give other tags than float32."""
    identities = {name: LocalModel(model.path, name).identity() for name in ("litert", "onnxruntime", "tensorflow")}
    assert len(set(identities.values())) == 3
    assert identities["litert"].endswith(" litert-int8")
    assert identities["onnxruntime"].endswith(" onnxruntime-float32")
    silence = np.zeros((1, CLIP_SAMPLES), np.float32)
    assert LocalModel(model.path, "litert").answer(silence).model == identities["litert"]


def test_overshoot_is_clipped_for_a_model_trained_here_alone(exported: Exported, tmp_path: Path) -> None:
    own = LocalModel(exported.path, "tensorflow")
    assert own.answer(np.full((1, CLIP_SAMPLES), 1.4, np.float32)).probabilities.shape == (1, len(TAGS))
    loud = 1.4 * tone(30)[None, :CLIP_SAMPLES] / np.abs(tone(30)).max()
    clipped = from_pcm(to_pcm(loud))
    heard: list[Any] = []
    own._engine.predict = lambda windows: heard.append(windows) or np.zeros((1, len(TAGS)), np.float32)
    own.answer(loud)
    np.testing.assert_array_equal(heard[0], clipped)
    own.info = dataclasses.replace(own.info, origin=Origin("others", "a paper", "MIT"))
    own.answer(loud)
    np.testing.assert_array_equal(heard[1], loud)


class RollingOut(Loudness):
    """A server whose version changes after so many calls, each time; every version says another number."""

    def __init__(self, *changes: int) -> None:
        super().__init__()
        self._changes = changes

    def answer(self, windows: Any) -> Answers:
        version = sum(len(self.batches) >= change for change in self._changes)
        rows = np.full((len(windows), 3), version, np.float32)
        self.batches.append(len(windows))
        return Answers(self.tags, np.float32([0.1, 0.9, 0.5]), rows, f"version {version}")


def test_song_is_tagged_again_where_a_new_version_comes_between_two_of_its_windows(tmp_path: Path) -> None:
    source = RollingOut(1)
    tagged = Tagger(source, jobs=1).tag_file(soft(tmp_path / "a.wav", 3 * WINDOWS_AT_ONCE))
    assert tagged.model == "version 1"
    assert tagged.window_probabilities.tolist() == [[1, 1, 1]] * 3 * WINDOWS_AT_ONCE
    assert sum(source.batches) > 3 * WINDOWS_AT_ONCE


def test_song_whose_versions_never_stay_is_an_error(tmp_path: Path) -> None:
    source = RollingOut(*range(1, 1000))
    with pytest.raises(AutotagError, match=r"a\.wav: its windows were answered by version \d+ and .*--label"):
        Tagger(source, jobs=1).tag_file(soft(tmp_path / "a.wav", 3 * WINDOWS_AT_ONCE))
    with pytest.raises(AutotagError, match="choose one of its versions"):
        Tagger(RollingOut(*range(1, 1000))).tag_samples(np.tile(SQUARE, 3 * WINDOWS_AT_ONCE * CLIP_SAMPLES // 2))


def test_samples_are_tagged_again_where_a_new_version_comes_between() -> None:
    probabilities = Tagger(RollingOut(1)).tag_samples(np.tile(SQUARE, 2 * WINDOWS_AT_ONCE * CLIP_SAMPLES // 2))
    assert probabilities.tolist() == [1, 1, 1]


@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", "ogg"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_any_format_rate_and_channel_count_gives_about_the_same(
    tagger: Tagger, tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", 12, rate=rate, channels=channels)
    tagged = tagger.tag_file(path)
    assert tagged.seconds == pytest.approx(12, abs=0.15)
    assert tagged.windows == 1
    np.testing.assert_allclose(tagged.probabilities, tagger.tag_samples(tone(12)), atol=0.12)  # MP3 loses some


def test_overshoot_of_a_decoder_is_clipped_as_in_training(tagger: Tagger) -> None:
    loud = tone(30) * 4
    assert np.abs(loud).max() > 1
    np.testing.assert_array_equal(tagger.tag_samples(loud), tagger.tag_samples(np.clip(loud, -1, 1)))


def test_top_is_sorted_and_named(tagger: Tagger, tmp_path: Path) -> None:
    tagged = tagger.tag_file(write_audio(tmp_path / "a.wav", 3))
    top = tagged.top(4)
    assert len(top) == 4
    assert [p for _, p in top] == sorted((float(p) for p in tagged.probabilities), reverse=True)[:4]
    assert len(tagged.top(100)) == len(TAGS)
    assert tagged.tags == TAGS
    np.testing.assert_array_equal(tagged.thresholds, np.float32(THRESHOLDS))


@pytest.mark.parametrize(("content", "kind"), [(b"", "empty"), (b"ID3 but not music" * 50, "undecodable")])
def test_file_that_cannot_be_decoded_is_a_clip_error(tagger: Tagger, tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "broken.mp3"
    path.write_bytes(content)
    with pytest.raises(ClipError, match="broken.mp3") as caught:
        tagger.tag_file(path)
    assert caught.value.kind == kind


def test_file_that_is_not_there_is_a_clip_error(tagger: Tagger, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="unreadable.*none.wav"):
        tagger.tag_file(tmp_path / "none.wav")


def test_highest_number_is_the_newest_version(tmp_path: Path) -> None:
    for name in ("9", "10", "100", "latest", "200"):
        (tmp_path / name).mkdir()
        if name != "200":  # being written: nothing in it yet
            (tmp_path / name / "saved_model.pb").touch()
    assert find_model(tmp_path) == tmp_path / "100"
    assert find_model(tmp_path / "9") == tmp_path / "9"


def without_model(folder: Path, exported: Exported) -> Path:
    return folder / "none"


def empty_folder(folder: Path, exported: Exported) -> Path:
    return folder


def no_description(folder: Path, exported: Exported) -> Path:
    shutil.copytree(exported.path, folder / "m", ignore=shutil.ignore_patterns("model.json"))
    return folder / "m"


def broken_description(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    (copied / "model.json").write_text('{"tags": []}')
    return copied


def older_description(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    text = (copied / "model.json").read_text("utf-8")
    (copied / "model.json").write_text(text.replace('"format": 2', '"format": 1'), "utf-8")
    return copied


def broken_graph(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    (copied / "saved_model.pb").write_bytes(b"\xff" * 100)
    return copied


def no_weights(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    shutil.rmtree(copied / "variables")
    return copied


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_model, "no such folder"),
        (empty_folder, "neither saved_model.pb nor a numbered version"),
        (no_description, "model.json cannot be read"),
        (broken_description, "not a description of a model that this version of autotag reads"),
        (older_description, "its format is 1, and this version of autotag reads 2. Push the model again"),
        (broken_graph, "cannot be loaded"),
        (no_weights, "cannot be loaded"),
    ],
)
def test_model_that_cannot_be_used_is_said_with_its_path(
    tmp_path: Path, exported: Exported, spoil: Any, words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        Tagger(spoil(tmp_path, exported))
    assert str(tmp_path) in str(caught.value)


def test_silent_windows_are_not_asked_about_and_do_not_count(tmp_path: Path) -> None:
    clip = tone(CLIP_SECONDS)
    song = np.concatenate([clip, np.zeros(2 * CLIP_SAMPLES, np.float32), 0.5 * clip, np.zeros(CLIP_SAMPLES // 2)])
    sf.write(tmp_path / "hidden.wav", song, SAMPLE_RATE)
    source = Loudness()
    tagged = Tagger(source).tag_file(tmp_path / "hidden.wav")

    assert tagged.silences.tolist() == [False, True, True, False, False]
    assert not tagged.silent
    assert sum(source.batches) == 3
    assert not tagged.window_probabilities[1:3].any()
    heard = tagged.window_probabilities[[0, 3, 4]]
    np.testing.assert_allclose(tagged.probabilities, heard.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        Tagger(source).tag_samples(load_audio((tmp_path / "hidden.wav").read_bytes())), tagged.probabilities, rtol=1e-5
    )


@pytest.mark.parametrize("level", [0.0, 0.25])
@pytest.mark.parametrize("seconds", [0.01, 5, 100])
def test_file_with_nothing_in_it_has_no_tag(tmp_path: Path, seconds: float, level: float) -> None:
    """Zeros, and a constant, which no loudspeaker plays."""
    sf.write(tmp_path / "a.wav", np.full(round(seconds * SAMPLE_RATE), level), SAMPLE_RATE)
    tagged = Tagger(Loudness()).tag_file(tmp_path / "a.wav")
    assert tagged.silent
    assert tagged.tags == Loudness.tags
    assert tagged.model == "loudness"
    assert tagged.select(Selection()) == tagged.select(Selection(threshold=0.0)) == tagged.top(3) == []
    assert not tagged.above.any()
    assert not tagged.probabilities.any()
    assert tagged.windows == window_count(round(seconds * SAMPLE_RATE))
    assert not Tagger(Loudness()).tag_samples(np.full(round(seconds * SAMPLE_RATE), level, np.float32)).any()


def test_tags_of_a_model_that_is_given_windows_at_one_level_do_not_change_with_the_files(tmp_path: Path) -> None:
    song = tone(50)
    for name, gain in (("loud", 1.0), ("quiet", 0.01)):
        sf.write(tmp_path / f"{name}.flac", gain * song, SAMPLE_RATE, subtype="PCM_24")
    loud, quiet = (Tagger(Loudness(), level="rms").tag_file(tmp_path / f"{name}.flac") for name in ("loud", "quiet"))
    np.testing.assert_allclose(quiet.window_probabilities, loud.window_probabilities, atol=1e-3)
    assert loud.probabilities[0] == pytest.approx(10 ** (-18 / 20), rel=1e-3)
    as_is = Tagger(Loudness()).tag_file(tmp_path / "quiet.flac")
    assert as_is.probabilities[0] < 0.01
    samples = load_audio((tmp_path / "quiet.flac").read_bytes())
    np.testing.assert_allclose(Tagger(Loudness(), level="rms").tag_samples(samples), quiet.probabilities, atol=1e-4)
