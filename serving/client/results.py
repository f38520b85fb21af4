"""Results of clips: a server's responses, checked, and put together where a long clip went in several requests.

A clip that is too long for one request is cut at whole windows (``cut``), so that the server finds in the pieces just
the windows that it would have found in the whole: one every clip's length, the last one ending where the audio ends.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.silence import mean_of_heard
from preprocessing.windows import window_count
from serving.client.cards import Card
from serving.client.errors import BadResponseError
from serving.client.requests import Response

SAMPLE_BYTES: Final = 2

PCM_SIGNATURE: Final = "pcm"
EMBEDDING_SIGNATURE: Final = "embedding"

Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClipTags:
    """What was heard in one clip or song of any length.

    Attributes:
        tags: in the order of the arrays.
        probabilities: float32 [T], the mean over the windows in which there is something to hear.
        thresholds: float32 [T], the model's own for each tag.
        above_threshold: bool [T], where the probability reaches the threshold; of a one-of head, the most probable one.
        no_tag: no tag reaches its threshold.
        windows: how many windows of the model's clip length (29.1 s by custom) the clip has; one at least.
        window_probabilities: float32 [windows, T], 0 where a window is silent.
        silent_windows: bool [windows], there is nothing to hear (preprocessing.silence).
        seconds: the clip's length.
        version: of the model that answered, one for all of a song.
        complete: nothing of the file is known to be missing.
        claimed_seconds: length that the file should have; None of PCM, and where nothing tells.
    """

    tags: tuple[str, ...]
    probabilities: Floats
    thresholds: Floats
    above_threshold: Booleans
    no_tag: bool
    windows: int
    window_probabilities: Floats
    silent_windows: Booleans
    seconds: float
    version: int
    complete: bool = True
    claimed_seconds: float | None = None

    @property
    def silent(self) -> bool:
        """Nothing is to be heard in the whole clip, which therefore has no tag."""
        return bool(self.silent_windows.all())

    def top(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` most probable tags, the most probable first; none of a silent clip."""
        if self.silent:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.tags[i], float(self.probabilities[i])) for i in order]


@dataclass(frozen=True, eq=False)
class ClipEmbedding:
    """Where one clip lies among all music, for 'sounds like' search.

    Attributes:
        vector: float32 [E], the mean over the windows in which there is something to hear; 0 without any.
        windows: how many windows of the model's clip length the clip has.
        silent_windows: bool [windows], as ClipTags has them.
        seconds: the clip's length.
        version: of the model that answered: vectors of two versions cannot be compared.
        complete, claimed_seconds: as ClipTags has them.
    """

    vector: Floats
    windows: int
    silent_windows: Booleans
    seconds: float
    version: int
    complete: bool = True
    claimed_seconds: float | None = None


def cut(blocks: Iterable[bytes], most_windows: int, clip: ClipFormat) -> Iterator[bytes]:
    """Join blocks of PCM and cut it into pieces of ``most_windows`` windows; the last has up to one more.

    Every piece but the first has a window at least, so that none is repeated, and the windows of the pieces are those
    of the whole.
    """
    window = SAMPLE_BYTES * clip.samples
    piece = most_windows * window
    buffer = bytearray()
    for block in blocks:
        buffer += block
        while len(buffer) >= piece + window:
            yield bytes(buffer[:piece])
            del buffer[:piece]
    yield bytes(buffer)


Clip = TypeVar("Clip", ClipTags, ClipEmbedding)
Exchange = Generator[list[bytes], Response, list[Clip]]
"""Yields the clips of a request, is sent its response, and returns the result of each whole clip."""


def tagging(clips: Iterable[Iterable[bytes]], most_windows: int, card: Card) -> Exchange[ClipTags]:
    """Tag clips, each given as blocks of its PCM, through the ``pcm`` signature of the model with this card.

    Raises:
        BadInputError: a clip is no int16 PCM.
        BadResponseError: an answer is not as the signature has it.
    """
    parts: dict[int, list[ClipTags]] = {}
    for request in _requests(clips, most_windows, card.clip):
        response = yield [pcm for _, pcm in request]
        read = read_tags(response, [len(pcm) for _, pcm in request], card.clip)
        for (index, _), part in zip(request, read, strict=True):
            parts.setdefault(index, []).append(part)
    return [_whole_tags(parts[index], card) for index in sorted(parts)]


def embedding(clips: Iterable[Iterable[bytes]], most_windows: int, card: Card) -> Exchange[ClipEmbedding]:
    """Embed clips, each given as blocks of its PCM, through the ``embedding`` signature; errors as in tagging."""
    parts: dict[int, list[ClipEmbedding]] = {}
    for request in _requests(clips, most_windows, card.clip):
        response = yield [pcm for _, pcm in request]
        read = read_embeddings(response, [len(pcm) for _, pcm in request], card.clip)
        for (index, _), part in zip(request, read, strict=True):
            parts.setdefault(index, []).append(part)
    return [_whole_embedding(parts[index]) for index in sorted(parts)]


def _requests(
    clips: Iterable[Iterable[bytes]], most_windows: int, clip: ClipFormat
) -> Iterator[list[tuple[int, bytes]]]:
    """Fill requests with pieces (index of the clip, PCM): short clips share one, a long clip has several."""
    request: list[tuple[int, bytes]] = []
    windows = 0
    for index, blocks in enumerate(clips):
        for pcm in cut(blocks, most_windows, clip):
            if not pcm or len(pcm) % SAMPLE_BYTES:
                raise BadInputError(
                    f"clip {index}: {len(pcm)} bytes are no 16-bit PCM; give one sample of two bytes at least"
                )
            more = window_count(len(pcm) // SAMPLE_BYTES, clip)
            if request and windows + more > most_windows:
                yield request
                request, windows = [], 0
            request.append((index, pcm))
            windows += more
    if request:
        yield request


def read_tags(response: Response, sizes: Sequence[int], clip: ClipFormat) -> list[ClipTags]:
    """Read the ``pcm`` signature's answer to clips of so many bytes.

    Raises:
        BadResponseError: an output is missing, has another shape than it should, or holds NaN.
    """
    probabilities = _floats(response, "predictions", (len(sizes), None))
    n_tags = probabilities.shape[1]
    thresholds = _floats(response, "thresholds", (len(sizes), n_tags))
    expected = [window_count(size // SAMPLE_BYTES, clip) for size in sizes]
    _check_windows(response, expected, clip)
    by_window = _floats(response, "window_predictions", (len(sizes), None, n_tags))
    if by_window.shape[1] < max(expected):  # more there may be: the server batches requests of several clients
        raise BadResponseError(f"the answer's 'window_predictions' has shape {by_window.shape} for {expected} windows")
    silent = _silent_windows(response, expected)
    names = [_names(row) for row in _output(response, "tags", (len(sizes), n_tags))]
    above = _booleans(response, "above_threshold", (len(sizes), n_tags))
    no_tag = _booleans(response, "no_tag", (len(sizes),))
    return [
        ClipTags(
            tags=names[i],
            probabilities=probabilities[i],
            thresholds=thresholds[i],
            above_threshold=above[i],
            no_tag=bool(no_tag[i]),
            windows=expected[i],
            window_probabilities=by_window[i, : expected[i]],
            silent_windows=silent[i],
            seconds=_seconds(sizes[i], clip),
            version=response.version,
        )
        for i in range(len(sizes))
    ]


def read_embeddings(response: Response, sizes: Sequence[int], clip: ClipFormat) -> list[ClipEmbedding]:
    """Read the ``embedding`` signature's answer to clips of so many bytes; errors as in read_tags."""
    vectors = _floats(response, "embedding", (len(sizes), None))
    expected = [window_count(size // SAMPLE_BYTES, clip) for size in sizes]
    _check_windows(response, expected, clip)
    silent = _silent_windows(response, expected)
    return [
        ClipEmbedding(vector, windows, silences, _seconds(size, clip), response.version)
        for vector, windows, silences, size in zip(vectors, expected, silent, sizes, strict=True)
    ]


def _whole_tags(parts: Sequence[ClipTags], card: Card) -> ClipTags:
    if len(parts) == 1:
        return parts[0]
    last = parts[-1]
    if len({(part.version, part.tags) for part in parts}) > 1:
        raise BadResponseError("the model changed its tags in the middle of a song: ask again, or choose a version")
    by_window = np.concatenate([part.window_probabilities for part in parts])
    silent = np.concatenate([part.silent_windows for part in parts])
    probabilities = mean_of_heard(by_window, silent)
    above = np.logical_and(card.decide(probabilities, last.thresholds), not silent.all())
    return ClipTags(
        tags=last.tags,
        probabilities=probabilities,
        thresholds=last.thresholds,
        above_threshold=above,
        no_tag=not above.any(),
        windows=len(by_window),
        window_probabilities=by_window,
        silent_windows=silent,
        seconds=math.fsum(part.seconds for part in parts),
        version=last.version,
    )


def _whole_embedding(parts: Sequence[ClipEmbedding]) -> ClipEmbedding:
    if len(parts) == 1:
        return parts[0]
    if len({(part.version, len(part.vector)) for part in parts}) > 1:
        raise BadResponseError("the model changed in the middle of a song: ask again, or choose a version")
    silent = np.concatenate([part.silent_windows for part in parts])
    heard = np.array([np.count_nonzero(~part.silent_windows) for part in parts])
    vector: Floats = np.zeros_like(parts[0].vector)
    if heard.any():
        vector = np.average([part.vector for part in parts], axis=0, weights=heard).astype(np.float32)
    return ClipEmbedding(vector, len(silent), silent, math.fsum(part.seconds for part in parts), parts[-1].version)


def _seconds(size: int, clip: ClipFormat) -> float:
    return size / (SAMPLE_BYTES * clip.sample_rate)


def _output(response: Response, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    value = response.outputs.get(name)
    if value is None:
        raise BadResponseError(
            f"the answer has no {name!r}, only {sorted(response.outputs)}: is the model one that this version of "
            "autotag pushed?"
        )
    fits = len(value.shape) == len(shape) and all(
        size in (None, got) for got, size in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise BadResponseError(f"the answer's {name!r} has shape {value.shape}, expected [{wanted}]")
    return value


def _floats(response: Response, name: str, shape: tuple[int | None, ...]) -> Floats:
    value = _output(response, name, shape)
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and said below
            floats = value.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadResponseError(f"the answer's {name!r} holds no numbers, but {value.dtype}") from error
    unusable = int(np.count_nonzero(~np.isfinite(floats)))
    if unusable:
        raise BadResponseError(
            f"the answer's {name!r} holds {unusable} NaN or infinite values: the model is broken, push another version"
        )
    return floats


def _booleans(response: Response, name: str, shape: tuple[int | None, ...]) -> Booleans:
    value = _output(response, name, shape)
    if value.dtype != np.bool_:
        raise BadResponseError(f"the answer's {name!r} holds no booleans, but {value.dtype}")
    return value


def _silent_windows(response: Response, expected: Sequence[int]) -> list[Booleans]:
    """Which windows of each clip are silent; the answer may have more columns, as of window_predictions."""
    by_clip = _booleans(response, "silent_windows", (len(expected), None))
    if by_clip.shape[1] < max(expected):
        raise BadResponseError(f"the answer's 'silent_windows' has shape {by_clip.shape} for {expected} windows")
    return [row[:count] for row, count in zip(by_clip, expected, strict=True)]


def _check_windows(response: Response, expected: Sequence[int], clip: ClipFormat) -> None:
    windows = _output(response, "windows", (len(expected),)).tolist()
    if windows != list(expected):
        raise BadResponseError(
            f"the server found {windows} windows of {clip.seconds:g} s in the clips, and there are {expected}"
        )


def _names(row: npt.NDArray[Any]) -> tuple[str, ...]:
    try:
        return tuple(str(name) if isinstance(name, str) else bytes.decode(name) for name in row)
    except (UnicodeDecodeError, TypeError) as error:
        raise BadResponseError(f"a tag's name is no text: {error}") from error
