"""From a clip's waveform to what a network reads of it: windows, their level, another sample rate, front end."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers, ops

from models.front_ends.settings import FrontEnd
from models.registry import Network
from models.tensors import Compute, FloatTensor
from preprocessing.clip_format import ClipFormat
from preprocessing.level import Level
from preprocessing.windows import WindowRule


@dataclass(frozen=True)
class Hearing:
    """What a network hears of a clip. Two networks whose hearing is equal can share what is computed.

    Attributes:
        clip: the clip.
        window: samples of the clip that make one window.
        starts: where the windows begin; before 0 and behind the clip's end there are zeros.
        sample_rate: Hz, of the network.
        window_samples: of one window at the network's rate.
        front_end: from a window at the network's rate to its input; None where it reads the waveform.
        level: of the window.
    """

    clip: ClipFormat
    window: int
    starts: tuple[int, ...]
    sample_rate: int
    window_samples: int
    front_end: FrontEnd | None
    level: Level = "as_is"

    @classmethod
    def of(cls, network: Network, clip: ClipFormat, rule: WindowRule | None = None, level: Level = "as_is") -> Hearing:
        """Return what a network hears of a clip.

        Args:
            network: which.
            clip: what it is given.
            rule: windows over which its answers are averaged; the network's own unless given.
            level: of each window.

        Raises:
            BadInputError: the clip is shorter than the network's window.
        """
        window = network.window_in(clip)
        at_clips_rate = (rule or network.score_windows).at_rate(clip.sample_rate, network.sample_rate)
        starts = at_clips_rate.starts(clip.samples, window)
        return cls(clip, window, starts, network.sample_rate, network.window_samples, network.front_end, level)

    @property
    def windows(self) -> int:
        """Of a clip."""
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the network reads of one window."""
        return (self.window_samples,) if self.front_end is None else self.front_end.shape(self.window_samples)

    def cut(self, waveform: FloatTensor) -> FloatTensor:
        """Float32 [batch, clip samples] -> [batch * windows, window], the windows of a clip one after another."""
        before = max(0, -min(self.starts))
        behind = max(0, max(self.starts) + self.window - self.clip.samples)
        if before or behind:
            waveform = ops.pad(waveform, ((0, 0), (before, behind)))
        if self.windows == 1:
            first = before + self.starts[0]
            return waveform[:, first : first + self.window]
        pieces = [waveform[:, before + start : before + start + self.window] for start in self.starts]
        return ops.reshape(ops.stack(pieces, axis=1), (-1, self.window))

    def front(self) -> Compute:
        """Return the function from windows, float32 [n, window], to what the network reads, [n, *shape]."""
        steps: list[layers.Layer] = []
        if self.level == "rms":
            from models.front_ends.level import RmsLevel

            steps.append(RmsLevel())
        if self.sample_rate != self.clip.sample_rate:
            from models.front_ends.resample import Resample

            steps.append(Resample(self.clip.sample_rate, self.sample_rate, self.window_samples))
        if self.front_end is not None:
            steps.append(self.front_end.layer())

        def run(windows: FloatTensor) -> FloatTensor:
            for step in steps:
                windows = step(windows)
            return windows

        return run

    def from_window(
        self, network: keras.Model, scale: tuple[float, float] | None = None, masks: layers.Layer | None = None
    ) -> keras.Model:
        """Return the network with its front: waveform of one window, float32 [batch, window] -> its answer.

        Args:
            network: what it reads, normalised -> its answer.
            scale: factor and offset of its normalisation; None where it takes what it reads as it is.
            masks: what hides parts of what it reads in training.
        """
        window = keras.Input((self.window,), name="window", dtype="float32")
        read = self.front()(window)
        if scale is not None:
            read = layers.Rescaling(*scale, dtype="float32", name="normalise")(read)
        if masks is not None:
            read = masks(read)
        return keras.Model(window, network(read), name=f"{network.name}_from_window")

    def mean_over_windows(self, by_window: FloatTensor) -> FloatTensor:
        """[batch * windows, n] -> [batch, n]."""
        if self.windows == 1:
            return by_window
        return ops.mean(ops.reshape(by_window, (-1, self.windows, by_window.shape[-1])), axis=1)
