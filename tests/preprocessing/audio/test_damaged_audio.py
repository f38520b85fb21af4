"""Damaged bytes in every format: the whole is heard, the shortfall said or the file refused; never a silent loss."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile as sf
from song_files import DAMAGES, SONG_SECONDS, SUFFIXES, needs_ffmpeg, song_as

from preprocessing.audio.decoding import Heard
from preprocessing.audio.loading import decode_clip, load_audio
from preprocessing.audio.streams import open_audio
from preprocessing.errors import ClipError

SEEDS = range(4)


def heard_of(path: object, data: bytes) -> Heard | None:
    """How much is heard of a file; None where it is refused."""
    try:
        with open_audio(str(path), block_seconds=2.0) as stream:
            samples = np.concatenate(list(stream.blocks))
    except ClipError:
        return None
    assert np.isfinite(samples).all()
    assert len(samples) == pytest.approx(stream.heard.seconds * 16_000, abs=2)
    return stream.heard


@needs_ffmpeg
@pytest.mark.parametrize("ffmpeg", [True, False], ids=["with ffmpeg", "without"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_whole_is_heard_or_the_shortfall_is_said(tmp_path, monkeypatch, kind, damage, ffmpeg):
    whole = song_as(kind)
    if not ffmpeg:
        monkeypatch.setenv("PATH", str(tmp_path))
    for seed in SEEDS:
        data = DAMAGES[damage](whole, random.Random(f"{kind} {damage} {seed}"))
        (tmp_path / "damaged").write_bytes(data)
        heard = heard_of(tmp_path / "damaged", data)
        expected = SONG_SECONDS * (2 if damage == "doubled" else 1)
        if heard is not None and heard.complete:
            assert heard.seconds > expected - 0.5, (seed, heard)
        elif heard is not None:
            assert heard.shortfall
            assert heard.claimed is None or heard.claimed > heard.seconds


@needs_ffmpeg
@pytest.mark.parametrize("kind", SUFFIXES)
def test_clip_of_a_damaged_file_is_complete_only_if_it_is_there(kind):
    from preprocessing.clip_format import clip_of_seconds

    clip = clip_of_seconds(6.0)
    for damage in ("cut", "lost", "overwritten"):
        for seed in SEEDS:
            data = DAMAGES[damage](song_as(kind), random.Random(f"{kind} {damage} {seed}"))
            try:
                heard = decode_clip(data, "damaged", clip)
            except ClipError:
                continue
            assert len(heard.samples) == clip.samples or heard.heard.shortfall


def test_reason_is_that_of_the_file_while_other_files_are_opened() -> None:
    def said(number: int) -> str:
        try:
            load_audio(sound if number % 2 else bytes(50), "x")
        except ClipError as error:
            return str(error)
        return ""

    stream = io.BytesIO()
    sf.write(stream, np.zeros(160), 16_000, format="FLAC")
    sound = stream.getvalue()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(said, range(3000))) == {"", "undecodable: x: Format not recognised."}
