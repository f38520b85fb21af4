"""A file's recordings, one after another, as blocks of mono at one rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.channels import Mixer
from preprocessing.audio.decoding import Heard, Recording
from preprocessing.audio.libsndfile import MOST_BLOCK_VALUES
from preprocessing.audio.samples import Resampler, Samples
from preprocessing.errors import ClipError

MOST_LOSSY_PEAK: Final = 8.0
"""Largest sample of what a lossy codec decodes to: encoders overshoot full scale by up to two, gain fields by more."""

MOST_PEAK: Final = 2.0
"""Largest sample of everything else: what goes beyond would be clipped nearly throughout, and has another scale."""


class MonoBlocks:
    """What is in a file, float32 [samples] a block, none of them empty; ``heard`` says how much it was, at the end.

    Args:
        file: to be decoded.
        sample_rate: Hz, of the blocks.
        block_seconds: seconds of the file in one block (fewer where rate times channels is very large); infinite for
            one block of all.
        needed: seconds to be decoded; infinite for all.
    """

    def __init__(
        self, file: AudioFile, sample_rate: int, block_seconds: float = math.inf, needed: float = math.inf
    ) -> None:
        self._file, self._sample_rate, self._block_seconds, self._needed = file, sample_rate, block_seconds, needed
        self._heard: list[Heard] = []
        self._passed = 0  # frames before the place that was sought
        self._parts = list(file.content.parts)
        self.satisfied = False
        """Whether as much was decoded as was needed; what follows was not looked at."""
        self.recording = self._next_recording()
        """What is being decoded; the first from the beginning on, so that what is no audio is told at once."""
        assert self.recording is not None
        self.first = self.recording
        """The first part's, which still tells what it is when it is closed."""
        following = [part.seconds if part.ends else None for part in self._parts]
        self.claimed = _sum([self.first.claimed, *following])
        """Seconds that the whole file should have; None where nothing tells."""

    @property
    def heard(self) -> Heard:
        """How much was heard, of all or of what was needed."""
        return Heard(
            math.fsum(heard.seconds for heard in self._heard),
            _sum([heard.claimed for heard in self._heard]),
            all(heard.complete for heard in self._heard),
        )

    def close(self) -> None:
        """Let go of the decoder."""
        if self.recording is not None:
            self.recording.close()

    def seek(self, seconds: float) -> int:
        """Begin as late as possible before a time, where the decoder can; before the first block.

        Seconds that are needed, and those that were heard, count from the file's beginning all the same.

        Returns:
            Samples of the blocks' rate from the file's beginning to the first block's; 0 where all is decoded.
        """
        rate: int = self.first.rate
        step = rate // math.gcd(rate, self._sample_rate)  # frames after which both rates have a sample at one time
        frame = int(seconds * rate) // step * step
        if frame <= 0 or self._parts or not self.first.seek(frame):
            return 0
        self._passed = frame
        return frame * self._sample_rate // rate

    def __iter__(self) -> Iterator[Samples]:
        """Yield the blocks, once.

        Raises:
            ClipError: ``empty``, ``undecodable``, ``not_finite`` or ``beyond_full_scale``.
        """
        given = 0
        while self.recording is not None:
            recording, left = self.recording, self._needed - math.fsum(heard.seconds for heard in self._heard)
            try:
                for samples in self._blocks(recording, left):
                    given += len(samples)
                    if len(samples):
                        yield samples
                self._heard.append(recording.heard(left))
            finally:
                recording.close()
            self.recording = None if self.satisfied else self._next_recording()
        if not self.heard.seconds:
            raise ClipError("empty", f"{self._name} has a header and no audio")
        if not given:
            raise ClipError("empty", f"{self._name} has less audio than one sample at {self._sample_rate} Hz")

    @property
    def _name(self) -> str:
        return self._file.name or "the file"

    def _next_recording(self) -> Recording | None:
        """Open the next part; one of several that cannot be opened counts as missing."""
        while self._parts:
            part = self._parts.pop(0)
            left = self._needed - math.fsum(heard.seconds for heard in self._heard)
            try:
                return Recording(self._file, part, left)
            except ClipError:
                if not self._parts and not any(heard.seconds for heard in self._heard):
                    raise
                self._heard.append(Heard(0.0, part.seconds, complete=False))
        return None

    def _blocks(self, recording: Recording, left: float) -> Iterator[Samples]:
        rate, channels = recording.rate, recording.channels
        most = max(1, MOST_BLOCK_VALUES // channels)
        frames = math.inf if math.isinf(self._block_seconds) else max(1, int(min(self._block_seconds * rate, most)))
        budget = math.inf if math.isinf(left) else math.ceil(left * rate)
        mixer, resampler = Mixer(rate, channels), Resampler(rate, self._sample_rate)
        decoded, last = self._passed, False
        self._passed = 0
        while not last:
            wanted = min(frames, budget - decoded)
            block = _read(recording, wanted, most)
            decoded += len(block)
            self.satisfied = decoded >= budget
            last = len(block) < wanted or self.satisfied
            if not decoded and last:
                recording.check_decoded()
            mono = self._checked(mixer.mix(block, last), recording.lossy)
            while len(mono) > frames:
                piece, mono = mono[: int(frames)], mono[int(frames) :]
                yield resampler.resample(piece, False)
            yield resampler.resample(mono, last)

    def _checked(self, mono: Samples, lossy: bool) -> Samples:
        """Return mono samples that can be used.

        Raises:
            ClipError: ``not_finite`` or ``beyond_full_scale``.
        """
        if not len(mono):
            return mono
        peak = max(float(mono.max()), -float(mono.min()))
        if not peak < math.inf:
            raise ClipError("not_finite", f"{self._name} has NaN or infinite samples")
        if peak > (MOST_LOSSY_PEAK if lossy else MOST_PEAK):
            raise ClipError(
                "beyond_full_scale",
                f"{self._name} has samples up to {peak:,.6g} where full scale is 1: integers stored as floats, or "
                f"a mix that is too loud; divide by {_full_scale(peak):,}",
            )
        return mono


def _full_scale(peak: float) -> int:
    """The scale that is probably meant: that of 16, 24 or 32 bits, or the next power of two."""
    known = next((scale for scale in (1 << 15, 1 << 23, 1 << 31) if scale / 64 < peak <= scale), None)
    return known or 1 << math.ceil(math.log2(peak))


def _read(recording: Recording, frames: float, most: int) -> Samples:
    """Read float32 [at most frames, channels], never allocating more at once than ``most`` frames: headers lie."""
    pieces: list[Samples] = []
    while frames > 0:
        wanted = int(min(frames, most))
        piece = recording.read(wanted)
        pieces.append(piece)
        frames -= len(piece)
        if len(piece) < wanted:
            break
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _sum(lengths: list[float | None]) -> float | None:
    known = [length for length in lengths if length is not None]
    return math.fsum(known) if len(known) == len(lengths) else None
