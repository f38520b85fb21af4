"""Audio that ffmpeg decodes, guarded: it is told the format, and opens nothing but the one file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from typing import IO, Final

import numpy as np

from preprocessing.audio.samples import Samples
from preprocessing.errors import ClipError

NEEDS_FFMPEG: Final = "needs_ffmpeg"
"""Kind of ClipError of what only ffmpeg decodes, where there is none."""

_DURATION: Final = re.compile(r"^\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_UNSURE: Final = re.compile(r"Estimating duration from bitrate|Stream #\S+: Video: (?!.*\(attached pic\))")
_FAULT: Final = re.compile(r"\[(?:error|fatal|panic)\] (.*)")
_MOST_MESSAGES: Final = 1 << 20


def find_ffmpeg() -> str | None:
    """Return where there is an ffmpeg; None where there is none on PATH."""
    return shutil.which("ffmpeg")


class FfmpegDecoder:
    """A file that ffmpeg decodes, to float32 at the file's own rate.

    Its output is Sun AU: a header of 24 bytes and more with rate and channels, then big-endian float32.

    Args:
        path: the file.
        demuxer: ffmpeg's name of the format; it is never left to guess.
        name: what to call the file in messages.
        start: bytes before the format's beginning.
        rate, channels: what is wanted of it; None for the file's own.

    Raises:
        ClipError: ``undecodable`` or ``empty``; ``needs_ffmpeg`` where there is none.
    """

    def __init__(
        self,
        path: str,
        demuxer: str,
        name: str,
        start: int = 0,
        rate: int | None = None,
        channels: int | None = None,
    ) -> None:
        ffmpeg = find_ffmpeg()
        if ffmpeg is None:
            raise ClipError(NEEDS_FFMPEG, f"{name}: no ffmpeg on PATH")
        self._name = name
        with contextlib.ExitStack() as stack:
            self._messages: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            call = [ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-v", "level+info"]
            call += ["-protocol_whitelist", "file,pipe", "-f", demuxer]
            call += ["-skip_initial_bytes", str(start)] if start else []
            call += ["-i", f"file:{path}", "-map", "0:a:0", "-map_metadata", "-1"]
            call += ["-ar", str(rate)] if rate else []
            call += ["-ac", str(channels)] if channels else []
            call += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
            try:
                self._process = subprocess.Popen(
                    call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._messages
                )
            except OSError as error:
                raise ClipError(NEEDS_FFMPEG, f"{name}: {ffmpeg} does not start: {error.strerror or error}") from error
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            assert self._process.stdout is not None
            self._output = stack.enter_context(self._process.stdout)
            header = self._output.read(24)
            if len(header) < 24:
                self._check_end()
                raise ClipError("empty", f"{name} has a header and no audio")
            _, begin, _, _, self.rate, self.channels = struct.unpack(">4s5I", header)
            self._output.read(begin - len(header))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End ffmpeg."""
        self._stack.close()

    def read(self, frames: int) -> Samples:
        """Return float32 [at most frames, channels]; fewer only at the end.

        Raises:
            ClipError: ``undecodable``, at the end, where ffmpeg says that it failed.
        """
        frame_bytes = 4 * self.channels
        data = self._output.read(frame_bytes * frames)
        if len(data) < frame_bytes * frames:
            self._check_end()
        whole = len(data) // frame_bytes
        samples = np.frombuffer(data, ">f4", count=whole * self.channels).reshape(whole, self.channels)
        return samples.astype(np.float32)

    @property
    def claimed(self) -> float | None:
        """Seconds that the file's header claims; None where it does not say, or says it of a film's pictures too."""
        messages = self._said()
        found = _DURATION.search(messages)
        if found is None or _UNSURE.search(messages):
            return None
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])

    @property
    def faults(self) -> bool:
        """Whether ffmpeg found anything wrong with the file so far."""
        return _FAULT.search(self._said()) is not None

    def _said(self) -> str:
        """What it said; its place in the file of messages is left alone."""
        return os.pread(self._messages.fileno(), _MOST_MESSAGES, 0).decode("utf-8", "replace")

    def _check_end(self) -> None:
        if self._process.wait():
            said = self._said()
            fault = _FAULT.search(said)
            lines = [fault[1]] if fault else said.strip().splitlines() or ["it gave no reason"]
            raise ClipError("undecodable", f"{self._name}: ffmpeg: {re.sub(r' @ 0x[0-9a-f]+', '', lines[0])}")
