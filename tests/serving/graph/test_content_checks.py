"""What is no PCM is told by its content, and nothing that is sound is taken for something else."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import tensorflow as tf
from exported_model import pcm_bytes, tone
from hostile_requests import files_and_text
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.synthesis.corpus import make_corpus
from preprocessing.audio.loading import load_clip
from preprocessing.audio.samples import to_pcm
from preprocessing.clip_format import PAPER_CLIP
from serving.graph.content_checks import other_content

MANY = 600
"""Signals of each kind; 20,000 of each were none the worse, and 17,080 cuts of the synthetic corpus."""


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])  # type: ignore[misc]
def words_of(clips: Any) -> Any:
    return other_content(clips, PAPER_CLIP)


def told(*clips: bytes) -> list[str]:
    other, words = words_of(tf.constant(list(clips)))
    found = [word.decode() for word in words.numpy()]
    assert [bool(word) for word in found] == other.numpy().tolist()
    return found


WORDS = {
    "WAV": "begins as a RIFF file (WAV): send it whole as signature wav",
    "ID3": "begins as an MP3: decode it to 16000 Hz mono int16 first",
    "MPEG frames": "begins as an MP3: decode it",
    "ADTS frames": "begins as AAC (ADTS): decode it",
    "Ogg": "begins as an Ogg file: decode it",
    "FLAC": "begins as a FLAC file: decode it",
    "MP4": "begins as an MP4 file: decode it",
    "WebM": "begins as a Matroska or WebM file: decode it",
    "base64": "looks like base64 text: {b64: ...} was forgotten, or base64 was applied twice",
    "base64 of silence": "looks like base64 text",
    "base64 in lines": "looks like base64 text",
    "base64 for URLs": "looks like base64 text",
    "JSON": "is text",
    "float32": "looks like float32 samples: multiply by 32768, round, clip and send them as int16",
    "float64": "looks like float64 samples: multiply by 32768, round, clip and send them as int16",
}


@pytest.mark.parametrize("name", list(files_and_text()))
def test_words_name_the_likely_mistake_and_its_cure(name: str) -> None:
    good, wrong = told(pcm_bytes(1), files_and_text()[name])
    assert good == ""
    assert wrong.startswith(WORDS[name])


FFMPEG = {
    "mp3": ("MP3", []),
    "mp3 without a tag": ("MP3", ["-id3v2_version", "0", "-write_xing", "0"]),
    "mp3 at 44.1 kHz": ("MP3", ["-id3v2_version", "0", "-ar", "44100"]),
    "mp2": ("MP3", []),
    "adts": ("AAC", []),
    "ogg": ("Ogg", []),
    "flac": ("FLAC", []),
    "mp4": ("MP4", ["-movflags", "frag_keyframe+empty_moov", "-c:a", "aac"]),
    "matroska": ("Matroska", []),
    "webm": ("WebM", []),
    "aiff": ("AIFF", []),
    "au": ("AU", []),
    "caf": ("CAF", ["-c:a", "pcm_s16be"]),
    "asf": ("WMA", []),
    "wv": ("WavPack", []),
    "wav": ("WAV", []),
}


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("name", list(FFMPEG))
def test_files_of_every_kind_are_told(tmp_path: Path, name: str) -> None:
    words, options = FFMPEG[name]
    sf.write(tmp_path / "a.wav", tone(3), 16_000)
    call = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-f", name.split()[0], *options, "-"]
    done = subprocess.run(call, capture_output=True)
    if b"Unknown encoder" in done.stderr or b"not known to support" in done.stderr:
        pytest.skip(f"this ffmpeg writes no {name}")
    assert words in told(done.stdout)[0]


def test_text_and_floats_of_sound_in_their_usual_forms_are_told() -> None:
    sound, pcm = tone(5), np.frombuffer(pcm_bytes(5), "<i2")
    file = io.BytesIO()
    np.save(file, pcm)
    forms = {
        "float32": sound.tobytes(),
        "float32 of int16": (pcm / np.float32(32768)).tobytes(),
        "float32 after silence": np.pad(sound, (40_000, 0)).tobytes(),
        "float64": sound.astype("<f8").tobytes(),
        "base64": base64.b64encode(base64.b64encode(pcm.tobytes())),
        "text": b"".join(b"%d, " % sample for sample in pcm),
        "NumPy": file.getvalue(),
    }
    for words, form in forms.items():
        assert words.split()[0] in told(form)[0], words


# Sounds


def int16(samples: Any) -> bytes:
    pcm: bytes = np.clip(np.round(samples), -32768, 32767).astype("<i2").tobytes()
    return pcm


def level(rng: np.random.Generator) -> float:
    return float(10 ** rng.uniform(0, 4.5))


def noise(rng: np.random.Generator) -> bytes:
    return int16(rng.normal(0, level(rng), int(rng.integers(1, 4000))))


def random_bytes(rng: np.random.Generator) -> bytes:
    return rng.bytes(2 * int(rng.integers(1, 3000)))


def quiet(rng: np.random.Generator) -> bytes:
    return int16(rng.normal(0, rng.uniform(0.2, 4), 3000) + rng.integers(-2, 3))


def clipped(rng: np.random.Generator) -> bytes:
    return int16(np.clip(rng.normal(0, 40_000, 3000), -32768, 32767) * rng.uniform(0.3, 1))


def periodic(rng: np.random.Generator) -> bytes:
    """A hit of chance would be there again in each period."""
    period = int(rng.integers(2, 400))
    one = rng.normal(0, level(rng), period)
    if rng.random() < 0.5:
        one = level(rng) * np.sin(2 * np.pi * np.arange(period) / period + rng.uniform(0, 6.3))
    return int16(np.tile(one, 6000 // period + 1))


def periodic_from_a_frame_header(rng: np.random.Generator) -> bytes:
    """The worst of these: the first sample is the sync word of an MPEG frame."""
    period = int(rng.integers(2, 900))
    one = rng.normal(0, level(rng), period)
    one[0] = rng.choice([-1025, -1281, -513, -769, -3073, -1])
    return int16(np.tile(one, 8000 // period + 1))


def square(rng: np.random.Generator) -> bytes:
    """With an offset, so that both halves may look like halves of floats."""
    period = int(rng.integers(4, 200))
    high = np.arange(4000) % period < period * rng.uniform(0.3, 0.7)
    return int16(np.where(high, 1, -1) * rng.uniform(10, 32_767) + rng.uniform(-3000, 3000))


SOUNDS = (noise, random_bytes, quiet, clipped, periodic, periodic_from_a_frame_header, square)


@pytest.mark.parametrize("make", SOUNDS)
def test_no_sound_is_taken_for_something_else(make: Callable[[np.random.Generator], bytes]) -> None:
    rng = np.random.default_rng(3)
    clips = [make(rng) for _ in range(MANY)]
    assert [words for words in told(*clips) if words] == []


def test_no_constant_but_the_one_that_base64_makes_of_silence_is_taken_for_something_else() -> None:
    values = np.arange(-32768, 32768, 13)
    assert 0x4141 not in values
    assert not any(told(*(int16(np.full(300, value)) for value in values)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=60), st.integers(1, 60))
def test_no_repeated_samples_are_taken_for_something_else(samples: list[int], times: int) -> None:
    pcm = int16(np.tile(samples, times))
    printable = all(0x20 <= byte < 0x7F or byte in b"\t\n\v\f\r" for byte in pcm)
    assert printable or told(pcm) == [""]


def test_no_part_of_the_synthetic_corpus_is_taken_for_something_else(tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus", clips=4, seed=5, jobs=1)
    rng = np.random.default_rng(0)
    cuts = []
    for path in sorted((tmp_path / "corpus").rglob("*.mp3")):
        pcm = to_pcm(load_clip(path.read_bytes())[0]).tobytes()
        cuts += [pcm, *(pcm[2 * start : 2 * start + 20_000] for start in rng.integers(0, len(pcm) // 2 - 10_000, 100))]
    assert len(cuts) == 404
    assert not any(told(*cuts))
