"""Excerpts of tracks: where they lie, that they are what a whole decode has there, and clips of other formats."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from audio_samples import annotation_rows, encoded, table, tone
from hypothesis import given
from hypothesis import strategies as st

from datasets.reading import read_manifest
from preprocessing.audio.loading import load_audio, load_clip
from preprocessing.clip_format import PAPER_CLIP, ClipFormat, clip_of_seconds
from preprocessing.errors import BadInputError, ClipError
from preprocessing.examples import Example, read_records
from preprocessing.excerpts import EXCERPTS, Excerpt, ExcerptRule, excerpt_id
from preprocessing.features import log_mel
from preprocessing.job import run_job
from preprocessing.manifest import Manifest, Shard
from preprocessing.settings import PreprocessSettings

SECOND = ClipFormat(16_000, 16_000)
IN_MEMORY = ("--runner=DirectRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    random = np.random.default_rng(0)
    return (0.1 * random.standard_normal((round(seconds * rate), channels))).astype(np.float32)


@pytest.mark.parametrize(
    ("rule", "starts"),
    [
        (ExcerptRule("first", 3), (0, 16_000, 32_000)),
        (ExcerptRule("centre", 1), (72_000,)),
        (ExcerptRule("centre", 2), (64_000, 80_000)),
        (ExcerptRule("even", 1), (72_000,)),
        (ExcerptRule("even", 3), (0, 72_000, 144_000)),
    ],
)
def test_excerpts_of_ten_seconds_lie_where_the_rule_says(rule, starts):
    assert rule.starts(160_000, SECOND) == starts


@given(st.sampled_from(sorted(EXCERPTS)), st.integers(1, 9), st.integers(1, 200_000))
def test_no_excerpt_overlaps_another_or_lies_behind_the_end(name, count, samples):
    starts = ExcerptRule(name, count).starts(samples, SECOND)
    assert len(starts) == min(count, max(1, samples // SECOND.samples))
    assert starts[0] >= 0
    assert all(later - sooner >= SECOND.samples for sooner, later in itertools.pairwise(starts))
    assert starts[-1] + SECOND.samples <= max(samples, SECOND.samples)


@pytest.mark.parametrize(
    ("values", "message"), [(("last",), "expected one of first, centre, even"), (("even", 0), "0")]
)
def test_bad_rule_is_refused(values, message):
    with pytest.raises(BadInputError, match=message):
        ExcerptRule(*values)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
@pytest.mark.parametrize("target", [16_000, 22_050])
def test_excerpt_is_what_the_whole_decode_has_there(kind, rate, target):
    data = encoded(noise(12.0, rate, 2), rate, kind)
    whole = load_audio(data, sample_rate=target)
    clip = ClipFormat(target, target)
    for index, start in enumerate(ExcerptRule("even", 3).starts(12 * target, clip)):
        samples, seconds = load_clip(data, "", clip, Excerpt(ExcerptRule("even", 3), index))
        assert len(samples) == clip.samples
        assert seconds == pytest.approx(12.0 - start / target, abs=1e-3)
        np.testing.assert_allclose(samples, whole[start : start + clip.samples], atol=2e-4)


def test_part_of_a_file_bounds_its_excerpts():
    data = encoded(noise(10.0, 16_000))
    whole = load_audio(data)
    rule = ExcerptRule("first", 3)
    samples, seconds = load_clip(data, "", SECOND, Excerpt(rule, 1, start=2.5, seconds=2.2))
    np.testing.assert_array_equal(samples, whole[56_000:72_000])
    assert seconds == pytest.approx(1.2)
    with pytest.raises(ClipError, match="no_excerpt: number 3 of a track that is long enough for 2"):
        load_clip(data, "", SECOND, Excerpt(rule, 2, start=2.5, seconds=2.2))
    with pytest.raises(ClipError, match="no_excerpt: the clip begins at 11 s, the file ends at 10.00 s"):
        load_clip(data, "", SECOND, Excerpt(rule, 0, start=11.0))


@pytest.mark.parametrize("kind", ["MP3", "FLAC"])
def test_excerpts_of_a_cut_file_lie_in_what_is_there(kind):
    whole = encoded(noise(20.0, 16_000), kind=kind)
    samples, seconds = load_clip(whole[: len(whole) // 2], "", SECOND, Excerpt(ExcerptRule("even", 3), 2))
    assert len(samples) == SECOND.samples
    assert seconds == pytest.approx(1.0)
    assert np.abs(samples).max() > 0.01


def test_excerpt_of_a_long_file_takes_the_memory_of_a_clip():
    data = encoded(np.zeros((16_000 * 1_200, 1), np.float32), kind="FLAC")
    tracemalloc.start()
    load_clip(data, "", SECOND, Excerpt(ExcerptRule("centre")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 4 * SECOND.samples


def examples_of(folder, settings):
    manifest = read_manifest(str(folder), str(folder / "songs.csv"), settings)
    summary = run_job(manifest, str(folder), str(folder / "out"), settings, IN_MEMORY)
    found = []
    for path in sorted((folder / "out").glob("*.tfrecord")):
        with open(path, "rb") as file:
            found += [(path.name, Example.FromString(record).features.feature) for record in read_records(file)]
    return manifest, summary, found


@pytest.fixture
def songs(tmp_path):
    """Six songs of 4 s and one of 1 s, in a table."""
    rows = ["path,tags"]
    for number in range(7):
        (tmp_path / f"{number}.wav").write_bytes(encoded(tone(4.0 if number < 6 else 1.0, 22_050), 22_050))
        rows.append(f"{number}.wav,rock")
    (tmp_path / "songs.csv").write_text("\n".join(rows))
    return tmp_path


def test_track_gives_several_clips_of_another_format_all_in_one_split(songs):
    clip = clip_of_seconds(1.5, 22_050)
    settings = PreprocessSettings(
        ratio=(2, 1, 1), n_tags=1, dataset="table", clip=clip, excerpts="even", excerpt_count=2, seed=3
    )
    manifest, summary, found = examples_of(songs, settings)
    assert (summary["clips"], summary["examples"], summary["rejected_by_reason"]) == (13, 13, {})
    assert {row.clip_id for row in manifest.clips} == {
        "6.wav",
        *(f"{k}.wav@{start}" for k in range(6) for start in ("0", "2.5")),
    }
    split_of_track = {}
    for name, features in found:
        track = features["track"].bytes_list.value[0]
        assert split_of_track.setdefault(track, name.split("-")[0]) == name.split("-")[0]
        waveform = np.frombuffer(features["waveform"].bytes_list.value[0], "<i2")
        assert waveform.shape == (33_075,)
        mel = np.frombuffer(features["log_mel"].bytes_list.value[0], "<f2").reshape(128, clip.frames)
        assert np.isfinite(mel).all()
    assert Manifest.from_json(manifest.to_json()) == manifest
    for shard in manifest.shards():
        assert Shard.from_json(shard.to_json()) == shard
    restored = PreprocessSettings.from_json(summary["settings"])
    assert restored == settings


def test_ids_say_where_in_the_file_an_excerpt_begins_and_files_without_several_keep_theirs(songs):
    (songs / "2.wav").write_bytes(b"no audio")
    (songs / "3.wav").unlink()
    rows = ["path,tags,start,seconds", "0.wav,rock,0.5,2.2", "1.wav,rock,,", "2.wav,rock,,", "3.wav,rock,,"]
    rows += ["4.wav,rock,9,", "5.wav,rock,,1.9", "6.wav,pop,,"]
    (songs / "songs.csv").write_text("\n".join(rows))
    settings = PreprocessSettings(
        ratio=(2, 1, 1), tags=("rock",), dataset="table", clip=SECOND, excerpts="first", excerpt_count=3, seed=3
    )
    manifest, summary, _ = examples_of(songs, settings)
    assert [row.clip_id for row in manifest.clips] == [
        "0.wav@0.5@0.5",
        "0.wav@0.5@1.5",
        "1.wav@0",
        "1.wav@1",
        "1.wav@2",
        "2.wav",
        "3.wav",
        "4.wav@9",
        "5.wav",
        "6.wav",
    ]
    assert summary["rejected_by_reason"] == {"missing": 1, "no_excerpt": 1, "undecodable": 1}


@pytest.mark.parametrize(("start", "name"), [(0.0, "a@0"), (100.0, "a@100"), (29.1, "a@29.1"), (0.125, "a@0.125")])
def test_id_of_an_excerpt_is_the_clips_with_the_second(start, name):
    assert excerpt_id("a", start) == name


def test_clip_that_the_split_rule_leaves_out_is_left_out_once(tmp_path):
    paths = [f"{folder}/a-b-0{number}-t.wav" for number, folder in enumerate("0cdd")]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(encoded(tone(2.0)))
    tags = dict(zip(paths, (["guitar"], ["guitar"], ["guitar"], []), strict=True))
    (tmp_path / "annotations.csv").write_text(table(annotation_rows(tags)))
    settings = PreprocessSettings(split="clean", tags=("guitar",), clip=SECOND, excerpt_count=2)
    manifest = read_manifest(str(tmp_path), str(tmp_path / "annotations.csv"), settings)
    assert [row.clip_id for row in manifest.clips] == ["1@0", "1@1", "2@0", "2@1", "3@0", "3@1", "4"]
    assert [bool(row.dropped) for row in manifest.clips] == [False] * 6 + [True]


@pytest.mark.parametrize(
    "change",
    [{"clip": ClipFormat(16_000, 8_000)}, {"clip": ClipFormat(8_000, 16_000)}, {"excerpts": "centre"}],
    ids=["samples", "rate", "excerpts"],
)
def test_other_format_or_rule_is_other_shards(songs, change):
    settings = {"ratio": (2, 1, 1), "n_tags": 1, "dataset": "table", "clip": SECOND, "seed": 3}
    manifests = [
        read_manifest(str(songs), str(songs / "songs.csv"), PreprocessSettings(**values))
        for values in (settings, settings | change)
    ]
    fingerprints = [{shard.fingerprint for shard in manifest.shards() if shard.clips} for manifest in manifests]
    assert not fingerprints[0] & fingerprints[1]
    assert manifests[0].fingerprint != manifests[1].fingerprint


@pytest.mark.parametrize("clip", [ClipFormat(22_050, 33_075), ClipFormat(8_000, 8_000)])
def test_log_mel_of_another_format_is_librosas(clip):
    import librosa

    samples = noise(clip.seconds, clip.sample_rate)[:, 0]
    power = librosa.feature.melspectrogram(y=samples, sr=clip.sample_rate, n_fft=2048, hop_length=787, n_mels=128)
    np.testing.assert_allclose(log_mel(samples, clip), librosa.power_to_db(power), atol=1e-2)
    assert log_mel(samples, clip).shape == (128, clip.frames)


@pytest.mark.parametrize(("seconds", "rate"), [(0.01, 16_000), (700, 16_000), (1, 500), (1, 400_000)])
def test_format_that_no_clip_has_is_refused(seconds, rate):
    with pytest.raises(BadInputError, match=r"expected 0.1 to 600 s at 1000 to 192000 Hz"):
        PreprocessSettings(clip=clip_of_seconds(seconds, rate))
    for wrong in ((0, rate), (seconds, 0), (-1, rate), (float("nan"), rate), (float("inf"), rate)):
        with pytest.raises(BadInputError, match="expected positive numbers"):
            clip_of_seconds(*wrong)


def test_default_is_the_papers_clip():
    assert clip_of_seconds(29.1) == PreprocessSettings().clip == PAPER_CLIP
    assert (PAPER_CLIP.frames, PAPER_CLIP.log_mel_bytes) == (592, 2 * 128 * 592)
