"""Decoding of audio: every format, rate and channel count to mono 16 kHz; what cannot be used is a ClipError."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess

import numpy as np
import pytest
from audio_samples import MTAT, encoded, needs_mtat, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.loading import decode_clip, load_audio, load_clip
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.audio.streams import open_audio
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import ClipError

KINDS = [
    (kind, channels)
    for kind in ("MP3", "WAV", "FLAC", "OGG")
    for channels in (1, 2, 6)
    if (kind, channels) != ("MP3", 6)
]
SECOND = encoded(tone(1.0))


def loudest_hz(samples):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * SAMPLE_RATE / len(samples)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(("kind", "channels"), KINDS)
def test_any_format_rate_and_channel_count_gives_the_same_mono_tone(kind, channels, rate):
    samples = load_audio(encoded(tone(2.0, rate, channels), rate, kind))

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=2_400)  # MP3 pads by frames
    middle = samples[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2]
    assert loudest_hz(middle) == pytest.approx(440, abs=2)
    encoder_drops_the_bass_channel = (kind, channels) == ("OGG", 6)
    level = np.sqrt(np.mean(middle**2))
    assert level == pytest.approx(0.3 / np.sqrt(2), rel=0.2 if encoder_drops_the_bass_channel else 0.03)


def test_16_khz_mono_wav_keeps_its_samples_exactly():
    pcm = np.random.default_rng(0).integers(-32_768, 32_768, 5_000, dtype=np.int16)
    assert np.array_equal(to_pcm(load_audio(encoded(pcm, subtype="PCM_16"))), pcm)


def test_channels_are_averaged():
    both = np.hstack([tone(0.5), tone(0.5, hz=660)])
    assert np.array_equal(load_audio(encoded(both, subtype="FLOAT")), both.mean(axis=1))


def test_what_16_khz_cannot_hold_is_filtered_out_not_folded_back():
    assert np.abs(load_audio(encoded(tone(1.0, 48_000, hz=20_000), 48_000))[1_000:-1_000]).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_clip_of_a_long_file_is_its_beginning_and_the_files_length_is_kept(rate):
    data = encoded(tone(40.0, rate, hz=1_000), rate)
    samples, seconds = load_clip(data)

    assert len(samples) == CLIP_SAMPLES
    assert seconds == pytest.approx(40.0, abs=1e-3)
    assert np.allclose(samples, load_audio(data)[:CLIP_SAMPLES], atol=1e-5)


def test_clip_of_a_short_file_is_all_of_it():
    samples, seconds = load_clip(SECOND)
    assert (len(samples), seconds) == (SAMPLE_RATE, 1.0)


def test_cut_mp3_is_a_shorter_clip_with_its_length_recorded():
    whole = encoded(tone(20.0), kind="MP3")
    samples, seconds = load_clip(whole[: len(whole) // 2])

    assert 8.0 < seconds < 12.0
    assert len(samples) == pytest.approx(seconds * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize("kind", ["MP3", "FLAC"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_file_that_is_cut_behind_the_clip_is_as_long_as_what_is_there(kind, rate):
    whole = encoded(noise(60.0, rate, 1), rate, kind)
    assert load_clip(whole)[1] == pytest.approx(60.0, abs=1e-6)
    samples, seconds = load_clip(whole[: 3 * len(whole) // 4])
    assert len(samples) == CLIP_SAMPLES
    assert 40.0 < seconds < 50.0


@needs_mtat
def test_real_clip_has_the_published_length_and_may_be_cut_anywhere():
    data = next((MTAT / "audio").glob("*.mp3")).read_bytes()
    samples, seconds = load_clip(data)
    assert len(samples) == CLIP_SAMPLES
    assert seconds == pytest.approx(29.1, abs=0.2)
    assert load_clip(data[: len(data) // 2])[1] == pytest.approx(seconds / 2, abs=0.5)


def huge_flac() -> bytes:
    """A FLAC file whose header claims 2**36 - 1 samples: 256 GiB as float32."""
    data = bytearray(encoded(tone(1.0), kind="FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    return bytes(data)


NOT_A_NUMBER = tone(0.5)
NOT_A_NUMBER[100] = np.nan
INFINITE = tone(0.5)
INFINITE[100] = np.inf


unusable = pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"", "empty", id="no bytes"),
        pytest.param(encoded(tone(0.0)), "empty", id="header and no audio"),
        pytest.param(encoded(tone(1 / 44_100, 44_100), 44_100), "empty", id="less than one sample at 16 kHz"),
        pytest.param(b"this is no audio\n" * 500, "undecodable", id="text named mp3"),
        pytest.param(b"<html><body>404 Not Found</body></html>", "undecodable", id="web page named mp3"),
        pytest.param(encoded(tone(1.0), kind="MP3")[:200], "undecodable", id="cut within the MP3 header"),
        pytest.param(SECOND[:20], "undecodable", id="cut within the WAV header"),
        pytest.param(encoded(tone(1.0), kind="FLAC")[:100], "undecodable", id="cut FLAC"),
        pytest.param(encoded(NOT_A_NUMBER, subtype="FLOAT"), "not_finite", id="NaN"),
        pytest.param(encoded(INFINITE, subtype="FLOAT"), "not_finite", id="infinity"),
        pytest.param(bytes(50_000), "undecodable", id="zeros"),
    ],
)


@unusable
@pytest.mark.parametrize("load", [load_audio, load_clip])
def test_audio_that_cannot_be_used_is_rejected_with_its_kind_and_the_same_words_each_time(load, data, kind):
    reasons = []
    for _ in range(2):
        with pytest.raises(ClipError) as caught:
            load(data, "f/a clip.mp3")
        reasons.append(str(caught.value))
        assert caught.value.kind == kind
    assert reasons[0] == reasons[1]
    assert "0x" not in reasons[0]


@pytest.mark.parametrize("size", range(20, 240, 20))
def test_mp3_that_is_cut_before_its_first_frame_ends_is_not_called_a_missing_file(size):
    with pytest.raises(ClipError) as caught:
        load_clip(encoded(tone(1.0), kind="MP3")[:size], "a.mp3")
    assert re.search(r"Format not recognised|no whole frame of audio", str(caught.value))


def test_header_that_lies_about_the_length_takes_no_memory_and_the_lie_is_told():
    assert len(load_audio(huge_flac())) == SAMPLE_RATE
    clip = decode_clip(huge_flac())
    assert (len(clip.samples), clip.seconds) == (SAMPLE_RATE, 1.0)
    assert re.fullmatch(r"1\.0 of \d{7}\.\d s", clip.heard.shortfall)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 20_000), st.sampled_from(["MP3", "WAV", "FLAC", "OGG"]))
def test_damaged_files_give_samples_or_a_clip_error(junk, at, kind):
    data = bytearray(DAMAGED[kind])
    data[at : at + len(junk)] = junk
    try:
        samples, seconds = load_clip(bytes(data))
    except ClipError:
        return
    assert np.isfinite(samples).all()
    assert seconds > 0


DAMAGED = {kind: encoded(tone(1.0), kind=kind) for kind in ("MP3", "WAV", "FLAC", "OGG")}


def test_clip_shorter_than_29_seconds_is_repeated_and_a_longer_one_is_cut():
    ones = np.ones(CLIP_SAMPLES + 5, dtype=np.float32)
    assert np.array_equal(fit_clip(ones), ones[:CLIP_SAMPLES])
    short = np.arange(100, dtype=np.float32)
    assert np.array_equal(fit_clip(short), np.tile(short, CLIP_SAMPLES // 100))
    assert np.array_equal(fit_clip(ones[:0]), np.zeros(CLIP_SAMPLES, np.float32))


@given(st.integers(1, 400), st.integers(1, 400))
def test_sample_of_a_repeated_clip_is_that_of_its_place_in_the_file(length, size):
    file = np.random.default_rng(length).normal(size=length).astype(np.float32)
    fitted = fit_clip(file, ClipFormat(16_000, size))
    assert fitted.dtype == np.float32
    assert np.array_equal(fitted, file[np.arange(size) % length])


def test_pcm_goes_there_and_back_and_clips_what_is_too_loud():
    pcm = np.arange(-32_768, 32_768, dtype="<i2")
    assert np.array_equal(to_pcm(from_pcm(pcm)), pcm)
    assert to_pcm(np.array([-2.0, 2.0], dtype=np.float32)).tolist() == [-32_768, 32_767]


def blocks_of(path, **options):
    with open_audio(path, **options) as stream:
        return list(stream.blocks)


def streamed(path, **options):
    return np.concatenate(blocks_of(path, **options))


def noise(seconds, rate, channels):
    samples = np.random.default_rng(rate).normal(0, 0.1, (round(seconds * rate), channels))
    return samples.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["MP3", "WAV", "FLAC", "OGG"]),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
    channels=st.integers(1, 2),
    seconds=st.floats(0.05, 3.0),
    block_seconds=st.floats(0.001, 4.0),
)
def test_blocks_together_are_what_the_whole_decode_gives(
    tmp_path_factory, kind, rate, channels, seconds, block_seconds
):
    data = encoded(noise(seconds, rate, channels), rate, kind)
    path = tmp_path_factory.getbasetemp() / "streamed"
    path.write_bytes(data)
    blocks = blocks_of(path, block_seconds=block_seconds)

    assert all(block.dtype == np.float32 and block.ndim == 1 and len(block) for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), load_audio(data), atol=1e-6)


def test_block_takes_no_more_memory_than_asked_for_and_the_claimed_length_is_told(tmp_path):
    (tmp_path / "a.flac").write_bytes(encoded(tone(20.0, 44_100, 2), 44_100, "FLAC"))
    with open_audio(tmp_path / "a.flac", block_seconds=2.0) as stream:
        lengths = [len(block) for block in stream.blocks]
    assert stream.seconds == pytest.approx(20.0)
    assert len(lengths) >= 10
    assert max(lengths) < 2.2 * SAMPLE_RATE


def test_file_that_is_left_after_its_first_block_is_closed(tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(tone(5.0)))
    before = len(os.listdir("/proc/self/fd"))
    with open_audio(tmp_path / "a.wav", block_seconds=1.0) as stream:
        next(stream.blocks)
    assert len(os.listdir("/proc/self/fd")) == before


def test_streamed_cut_mp3_is_what_is_there(tmp_path):
    whole = encoded(tone(20.0, 44_100, 2), 44_100, kind="MP3")
    cut = whole[: len(whole) // 2]
    (tmp_path / "a.mp3").write_bytes(cut)
    np.testing.assert_allclose(streamed(tmp_path / "a.mp3", block_seconds=1.0), load_audio(cut), atol=1e-6)


@unusable
def test_streaming_refuses_what_the_whole_decode_refuses(tmp_path, data, kind):
    path = tmp_path / "clip.mp3"
    path.write_bytes(data)
    with pytest.raises(ClipError, match=r"clip\.mp3") as caught:
        streamed(path, block_seconds=0.1)
    assert caught.value.kind == kind
    with pytest.raises(ClipError):
        load_audio(data)


def test_header_that_claims_a_year_costs_streaming_nothing_and_what_is_there_is_given(tmp_path):
    (tmp_path / "a.flac").write_bytes(huge_flac())
    np.testing.assert_allclose(streamed(tmp_path / "a.flac"), load_audio(encoded(tone(1.0), kind="FLAC")))


def test_what_is_no_file_is_unreadable_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "none.wav", tmp_path / "pipe.wav", tmp_path / "a\0b.wav"):
        with pytest.raises(ClipError) as caught:
            streamed(path)
        assert caught.value.kind == "unreadable"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 20_000), st.sampled_from(["MP3", "WAV", "FLAC", "OGG"]))
def test_streamed_damaged_files_give_finite_samples_or_a_clip_error(tmp_path_factory, junk, at, kind):
    data = bytearray(DAMAGED[kind])
    data[at : at + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    try:
        samples = streamed(path, block_seconds=0.1)
    except ClipError:
        return
    assert len(samples)
    assert np.isfinite(samples).all()


def test_m4a_without_ffmpeg_says_that_it_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    with pytest.raises(ClipError, match=r"song\.m4a.*ffmpeg.*install it") as caught:
        streamed(tmp_path / "song.m4a")
    assert caught.value.kind == "needs_ffmpeg"


def ffmpeg_double(folder, output: bytes, words: str = "", code: int = 0):
    """A program named ffmpeg that gives this output, whatever it is asked; its arguments are kept in a file."""
    (folder / "output").write_bytes(output)
    script = folder / "ffmpeg"
    script.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{folder}/arguments'\n/bin/cat '{folder}/output'\n"
        f"echo '{words}' >&2\nexit {code}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_what_ffmpeg_gives_is_averaged_and_resampled_as_the_rest(tmp_path, monkeypatch):
    samples = noise(3.0, 44_100, 2)
    ffmpeg_double(tmp_path, encoded(samples, 44_100, "AU", "FLOAT"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "-song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    got = streamed(tmp_path / "-song.m4a", block_seconds=0.7)

    np.testing.assert_allclose(got, load_audio(encoded(samples, 44_100, "WAV", "FLOAT")), atol=1e-6)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("-f") + 1] == "mov", "never left to guess the format"
    assert arguments[arguments.index("-protocol_whitelist") + 1] == "file,pipe", "no addresses, whatever the file says"
    assert arguments[arguments.index("-i") + 1] == f"file:{tmp_path}/-song.m4a"


@pytest.mark.parametrize("output", [b"", encoded(tone(1.0), 16_000, "AU")], ids=["at once", "at the end"])
def test_what_ffmpeg_refuses_is_undecodable_in_its_own_words(tmp_path, monkeypatch, output):
    ffmpeg_double(tmp_path, output, "[mov @ 0x55d0c0ffee] moov atom not found", code=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    with pytest.raises(ClipError, match="moov atom not found") as caught:
        streamed(tmp_path / "song.m4a")
    assert caught.value.kind == "undecodable"
    assert "0x" not in caught.value.detail


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on PATH")
@pytest.mark.parametrize("suffix", ["m4a", "aac", "wma"])
def test_real_ffmpeg_decodes_what_it_encoded(tmp_path, suffix):
    (tmp_path / "a.wav").write_bytes(encoded(tone(5.0, 44_100, 2), 44_100))
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", tmp_path / f"a.{suffix}"], check=True, timeout=60
    )
    samples = streamed(tmp_path / f"a.{suffix}")
    assert len(samples) == pytest.approx(5 * SAMPLE_RATE, abs=2_400)
    assert loudest_hz(samples[SAMPLE_RATE : 4 * SAMPLE_RATE]) == pytest.approx(440, abs=2)
