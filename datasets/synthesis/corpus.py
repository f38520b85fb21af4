"""The corpus on disk: MP3s in folders, ``annotations_final.csv`` and ``clip_info_final.csv``, as in MagnaTagATune."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import soundfile

from datasets.mtat import ALL_TAGS, ANNOTATIONS, CLIP_INFO
from datasets.synthesis.plan import PlannedClip, plan_corpus
from datasets.synthesis.render import Studio
from datasets.synthesis.tones import Signal
from preprocessing.constants import SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.whole_files import write_whole

SETTINGS: Final = "corpus.json"
SYNTHESIS_VERSION: Final = 1
"""Raised when the same seed no longer gives the same bytes."""
MP3_COMPRESSION: Final = 0.85
"""libsndfile's scale on which 16 kHz mono at a constant rate becomes 32 kbit/s."""
CLIP_INFO_COLUMNS: Final = tuple(
    "clip_id track_number title artist album url segmentStart segmentEnd original_url mp3_path".split()
)

_RESUME: Final = "what was written is kept and the same call goes on from there"


@dataclass(frozen=True)
class CorpusSummary:
    """What a call of make_corpus left.

    Attributes:
        out: the corpus' folder.
        annotations: path of the annotation table.
        clip_info: path of the table of tracks.
        clips, tracks, artists: how many the corpus has.
        written: clips that this call wrote; the others were there.
        untagged: clips without any tag.
        tag_counts: tag -> clips, most frequent first, for the tags that occur.
    """

    out: Path
    annotations: Path
    clip_info: Path
    clips: int
    tracks: int
    artists: int
    written: int
    untagged: int
    tag_counts: Mapping[str, int]


def make_corpus(
    out: Path, clips: int, seed: int = 7, jobs: int = 2, on_clip: Callable[[int], None] | None = None
) -> CorpusSummary:
    """Write a synthetic corpus; clips that are there already are kept.

    Args:
        out: folder, which is made, or holds what an earlier call with the same settings wrote.
        clips: how many clips, at least 1; from about 40 on each of the 50 most frequent tags occurs.
        seed: the same seed gives the same bytes.
        jobs: processes.
        on_clip: called with the number of clips that are there, each time it grows.

    Raises:
        BadInputError: the numbers are out of range, or ``out`` holds something else.
        AutotagError: writing failed, as on a full disk.
    """
    _check_numbers(clips, seed, jobs)
    _claim_folder(out, clips, seed)
    plan = plan_corpus(clips, seed)
    try:
        written = _write_corpus(out, plan, seed, jobs, on_clip)
    except OSError as error:
        raise AutotagError(f"{error.filename or out}: {error.strerror or error}; {_RESUME}") from None
    except BrokenProcessPool:
        raise AutotagError(
            f"a process was killed, perhaps for want of memory; {_RESUME}, --jobs 1 needs least"
        ) from None
    return _summary(out, plan, written)


def _write_corpus(
    out: Path, plan: Sequence[PlannedClip], seed: int, jobs: int, on_clip: Callable[[int], None] | None
) -> int:
    """Write the clips that are missing, then the tables; return how many clips were written."""
    missing = [clip for clip in plan if not (out / clip.path).exists()]
    tracks = [list(group) for _, group in groupby(missing, key=lambda clip: clip.track.index)]
    done = len(plan) - len(missing)
    for folder in {clip.track.folder for clip in plan}:
        (out / folder).mkdir(exist_ok=True)
    for count in _render_all(out, tracks, seed, jobs):
        done += count
        if on_clip:
            on_clip(done)
    _write_if_new(out / ANNOTATIONS, annotations_table(plan))
    _write_if_new(out / CLIP_INFO, clip_info_table(plan))
    return len(missing)


def _check_numbers(clips: int, seed: int, jobs: int) -> None:
    for name, value, least in (("clips", clips, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        if value < least:
            raise BadInputError(f"{name} is {value}; expected {least} or more")


def _claim_folder(out: Path, clips: int, seed: int) -> None:
    """Make the folder, or see that it holds a corpus with the same settings."""
    settings = {"clips": clips, "seed": seed, "synthesis_version": SYNTHESIS_VERSION}
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = os.listdir(out)
    except OSError as error:
        raise BadInputError(f"{out}: cannot be used as the corpus' folder ({error.strerror})") from None
    if SETTINGS in names:
        found = _read_settings(out / SETTINGS)
        if found != settings:
            raise BadInputError(f"{out} holds a corpus made with {found}, not {settings}; choose another folder")
    elif any(not name.startswith(f".{SETTINGS}") for name in names):
        raise BadInputError(f"{out} is not empty and holds no synthetic corpus; choose another folder")
    else:
        _write_if_new(out / SETTINGS, json.dumps(settings) + "\n")


def _read_settings(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read ({error}); choose another folder") from None


def _render_all(out: Path, tracks: Sequence[list[PlannedClip]], seed: int, jobs: int) -> Iterator[int]:
    """Render the tracks and yield the number of clips of each when it is written."""
    if jobs == 1 or len(tracks) <= 1:
        for track in tracks:
            yield render_track(out, track, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tracks)), mp_context=context) as pool:
        futures = [pool.submit(render_track, out, track, seed) for track in tracks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def render_track(out: Path, clips: Sequence[PlannedClip], seed: int) -> int:
    """Render clips of one track to MP3 and return how many."""
    studio = Studio(clips[0].track, seed)
    for clip in clips:
        write_whole(out / clip.path, encode_mp3(studio.record(clip)))
    return len(clips)


def encode_mp3(samples: Signal) -> bytes:
    """Encode float32 [n] at 16 kHz, nominally in [-1, 1], as a mono MP3 of constant 32 kbit/s."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        samples,
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=MP3_COMPRESSION,
    )
    return buffer.getvalue()


def _write_if_new(path: Path, text: str) -> None:
    data = text.encode("utf-8")
    if not path.exists() or path.read_bytes() != data:
        write_whole(path, data)


def _table(rows: Iterator[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def annotations_table(plan: Sequence[PlannedClip]) -> str:
    """Return ``annotations_final.csv``: clip_id, 188 columns of 0 and 1, mp3_path."""

    def rows() -> Iterator[Sequence[object]]:
        yield ("clip_id", *ALL_TAGS, "mp3_path")
        for clip in plan:
            yield (clip.clip_id, *(int(tag in clip.tags) for tag in ALL_TAGS), clip.path)

    return _table(rows())


def clip_info_table(plan: Sequence[PlannedClip]) -> str:
    """Return ``clip_info_final.csv``: a row a clip with its track, artist, album and segment."""

    def rows() -> Iterator[Sequence[object]]:
        yield CLIP_INFO_COLUMNS
        for clip in plan:
            track = clip.track
            artist, album, title = (_spoken(slug) for slug in (track.artist, track.album, track.title))
            url = f"http://music.example/artists/{track.artist}/"
            original = f"http://music.example/{track.artist}/{track.album}/{track.number:02d}-{track.title}.mp3"
            yield clip.clip_id, track.number, title, artist, album, url, clip.start, clip.end, original, clip.path

    return _table(rows())


def _spoken(slug: str) -> str:
    return slug.replace("_", " ").title()


def _summary(out: Path, plan: Sequence[PlannedClip], written: int) -> CorpusSummary:
    counts = Counter(tag for clip in plan for tag in clip.tags)
    return CorpusSummary(
        out=out,
        annotations=out / ANNOTATIONS,
        clip_info=out / CLIP_INFO,
        clips=len(plan),
        tracks=len({clip.track.index for clip in plan}),
        artists=len({clip.track.artist for clip in plan}),
        written=written,
        untagged=sum(not clip.tags for clip in plan),
        tag_counts=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    )
