"""Audio files and small corpora that the preprocessing tests are run on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

MTAT = Path(__file__).resolve().parents[2] / "shared" / "mtat"
needs_mtat = pytest.mark.skipif(
    not MTAT.is_dir(), reason=f"MagnaTagATune's own metadata is not there ({MTAT}); its licence keeps it out of here"
)
TAGS = ("guitar", "slow", "techno")


def tone(seconds: float, rate: int = 16_000, channels: int = 1, hz: float = 440.0) -> npt.NDArray[np.float32]:
    """A tone of amplitude 0.3, float32 [samples, channels], the same in every channel."""
    time = np.arange(round(seconds * rate)) / rate
    mono = 0.3 * np.sin(2 * np.pi * hz * time)
    return np.tile(mono[:, None], (1, channels)).astype(np.float32)


def encoded(
    samples: npt.NDArray[np.float32], rate: int = 16_000, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the header first, the way MagnaTagATune's tables are written."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def annotation_rows(clips: Mapping[str, Sequence[str]], tags: Sequence[str] = TAGS) -> list[list[str]]:
    """The rows of an annotation table for path -> tags; ids are counted from 1."""
    rows = [["clip_id", *tags, "mp3_path"]]
    for number, (path, own) in enumerate(clips.items(), start=1):
        rows.append([str(number), *(str(int(tag in own)) for tag in tags), path])
    return rows


def write_corpus(folder: Path, files: Mapping[str, bytes | None]) -> Path:
    """Write audio files (None: not there) and their annotation table, whose path is returned.

    Clip k carries the tag k modulo 3, so that each tag is used.
    """
    for path, data in files.items():
        if data is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    annotations = folder / "annotations_final.csv"
    clips = {path: [TAGS[number % 3]] for number, path in enumerate(files)}
    annotations.write_text(table(annotation_rows(clips)), encoding="utf-8")
    return annotations


def clip_paths(count: int) -> list[str]:
    """Paths in MagnaTagATune's layout, two clips a track, through all 16 folders."""
    return [
        f"{'0123456789abcdef'[k // 2 % 16]}/artist-album-{k // 2:02d}-title-{k % 2 * 29}-{k % 2 * 29 + 29}.mp3"
        for k in range(count)
    ]
