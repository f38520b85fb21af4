"""What is changed at random in training clips, anew each epoch, before the front end and after they are brought to one
level where a network hears that.

A change means the same whether a network reads the waveform or the stored log-mel: a gain is added to decibels and
multiplies samples, an equaliser's curve likewise, noise and other clips add their power. What has no counterpart in
the log-mel domain (MP3) lets a network read the waveform in training. Sources: time shift, gain and random windows
are common practice; the random filter is FilterAugment's linear type (Nam, Kim and Park 2022, arXiv 2110.03282);
mixup is Zhang et al. 2018 (arXiv 1710.09412); masks on the spectrogram, which come after the front end, are SpecAugment
(Park et al. 2019, arXiv 1904.08779; models.spec_augment).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.training_settings import Augmentation
from models.front_ends.mel import mel_filterbank
from preprocessing.audio.mp3 import recoded
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import MEL_FMIN, N_FFT, N_MELS, POWER_FLOOR
from serving.model_info import Normalisation

EQUALISER_KNOTS: Final = 6
"""Random gains of an equaliser's curve, evenly spaced on the mel scale, with straight lines between them."""

NOISE_SNR_DB: Final = (10.0, 40.0)
"""Between these the signal-to-noise ratio of noise is drawn."""

MP3_LEVELS: Final = (0.0, 0.95)
"""Between these libsndfile's compression level is drawn: from 0, its best sound, to nearly 1, its smallest file."""

DECIBEL: Final = float(np.log(10) / 10)
"""ln of a power ratio of one decibel."""


@dataclass(frozen=True)
class StoredLogMel:
    """What is known of inputs that are the stored log-mel.

    Attributes:
        normalisation: theirs.
        sample_rate: Hz, of the waveform that they were made of.
    """

    normalisation: Normalisation
    sample_rate: int

    def filters(self) -> npt.NDArray[np.float64]:
        """The filter bank, [bands, frequencies]."""
        return np.asarray(
            mel_filterbank(self.sample_rate, N_FFT, N_MELS, MEL_FMIN, self.sample_rate / 2, htk=False, area_norm=True),
            np.float64,
        ).T


def augmented(
    batches: tf.data.Dataset,
    augmentation: Augmentation,
    seed: int,
    clip: ClipFormat,
    stored: StoredLogMel | None = None,
) -> tf.data.Dataset:
    """Apply an augmentation to batches; the same seed gives the same clips.

    Args:
        batches: dicts with ``inputs``, waveform [batch, samples] or log-mel [batch, bands, frames], and ``labels``.
        augmentation: which.
        seed: of the epoch.
        clip: rate of the waveform.
        stored: where the inputs are the stored log-mel.

    Raises:
        ValueError: the augmentation needs the waveform, and the inputs are the stored log-mel.
    """
    if not augmentation.changes_clips:
        return batches
    if stored is not None and augmentation.needs_waveform:
        raise ValueError("MP3 can be made of waveforms alone")
    changes = _OfLogMel(augmentation, stored) if stored is not None else _OfWaveform(augmentation, clip.sample_rate)

    def change(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return changes.apply(batch, tf.stack([tf.constant(seed, tf.int64), step]))

    return batches.enumerate().map(change, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


class _Changes:
    """What both domains share: the order of the changes, and their random numbers."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def apply(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Change ``inputs`` and, where clips are mixed, ``labels``; ``seed`` is int64 [2]."""
        chosen, inputs, labels = self.augmentation, batch["inputs"], batch["labels"]
        dtype, rows = inputs.dtype, tf.shape(inputs)[0]
        inputs = tf.cast(inputs, tf.float32)
        if chosen.time_shift:
            inputs = _turned(inputs, seed)
        if chosen.gain_db:
            inputs = self.gain(inputs, chosen.gain_db * tf.random.stateless_normal([rows], seed + 1))
        if chosen.equaliser_db:
            knots = tf.random.stateless_normal([rows, EQUALISER_KNOTS], seed + 2)
            inputs = self.equaliser(inputs, chosen.equaliser_db * knots)
        if chosen.noise:
            ratio = tf.random.stateless_uniform([rows], seed + 3, *NOISE_SNR_DB)
            taken = tf.random.stateless_uniform([rows], seed + 4) < chosen.noise
            inputs = self.noise(inputs, tf.where(taken, ratio, np.inf), seed + 5)
        if chosen.mp3:
            inputs = self.mp3(inputs, seed + 6)
        if chosen.mixup:
            share = _beta(rows, chosen.mixup, seed + 7)
            inputs = self.mix(inputs, tf.reverse(inputs, [0]), share)
            labels = labels * share[:, tf.newaxis] + tf.reverse(labels, [0]) * (1 - share)[:, tf.newaxis]
        return {**batch, "inputs": tf.cast(inputs, dtype), "labels": labels}

    def gain(self, inputs: tf.Tensor, decibels: tf.Tensor) -> tf.Tensor:
        """Amplify each row by float32 [rows] dB."""
        raise NotImplementedError

    def equaliser(self, inputs: tf.Tensor, knots: tf.Tensor) -> tf.Tensor:
        """Filter each row with a curve through float32 [rows, knots] dB."""
        raise NotImplementedError

    def noise(self, inputs: tf.Tensor, ratio: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Add white noise float32 [rows] dB below the signal; none where that is infinite."""
        raise NotImplementedError

    def mp3(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Write and read some rows as MP3."""
        raise NotImplementedError

    def mix(self, inputs: tf.Tensor, others: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        """Add float32 [rows] of each row's amplitude and the rest of another's."""
        raise NotImplementedError


class _OfWaveform(_Changes):
    """Changes of float32 [rows, samples]."""

    def __init__(self, augmentation: Augmentation, sample_rate: int) -> None:
        super().__init__(augmentation)
        self._sample_rate = sample_rate

    def gain(self, inputs: tf.Tensor, decibels: tf.Tensor) -> tf.Tensor:
        return inputs * (10 ** (decibels / 20))[:, tf.newaxis]

    def equaliser(self, inputs: tf.Tensor, knots: tf.Tensor) -> tf.Tensor:
        samples = inputs.shape[-1]
        length = int(2 ** np.ceil(np.log2(samples)))
        at = _places(np.linspace(0, self._sample_rate / 2, length // 2 + 1), self._sample_rate)
        curve = 10 ** (_curve(knots, at) / 20)
        spectrum = tf.signal.rfft(inputs, [length]) * tf.cast(curve, tf.complex64)
        return tf.signal.irfft(spectrum, [length])[:, :samples]

    def noise(self, inputs: tf.Tensor, ratio: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        power = tf.reduce_mean(tf.square(inputs), axis=-1)
        deviation = tf.sqrt(power * 10 ** (-ratio / 10))
        return inputs + deviation[:, tf.newaxis] * tf.random.stateless_normal(tf.shape(inputs), seed)

    def mp3(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        taken = tf.random.stateless_uniform([rows], seed) < self.augmentation.mp3
        levels = tf.where(taken, tf.random.stateless_uniform([rows], seed + 1, *MP3_LEVELS), -1.0)

        def recompress(clips: npt.NDArray[np.float32], at: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return recompressed(clips, at, self._sample_rate)

        return tf.ensure_shape(tf.numpy_function(recompress, [inputs, levels], tf.float32), inputs.shape)

    def mix(self, inputs: tf.Tensor, others: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        return inputs * share[:, tf.newaxis] + others * (1 - share)[:, tf.newaxis]


class _OfLogMel(_Changes):
    """Changes of normalised log-mel, float32 [rows, bands, frames]."""

    def __init__(self, augmentation: Augmentation, stored: StoredLogMel) -> None:
        super().__init__(augmentation)
        self._mean, self._std = stored.normalisation.mean, stored.normalisation.std
        filters = stored.filters()
        frequencies = np.linspace(0, stored.sample_rate / 2, filters.shape[1])
        self._places = _places(filters @ frequencies / filters.sum(axis=1), stored.sample_rate)
        self._white = (filters.sum(axis=1) / filters.sum()).astype(np.float32)
        widths = np.linalg.lstsq(filters.T, np.ones(filters.shape[1]), rcond=None)[0]
        self._widths = widths.astype(np.float32)
        """Bands weighted with these sum to the power of the frame."""

    def gain(self, inputs: tf.Tensor, decibels: tf.Tensor) -> tf.Tensor:
        return inputs + (decibels / self._std)[:, tf.newaxis, tf.newaxis]

    def equaliser(self, inputs: tf.Tensor, knots: tf.Tensor) -> tf.Tensor:
        return inputs + _curve(knots, self._places)[:, :, tf.newaxis] / self._std

    def noise(self, inputs: tf.Tensor, ratio: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        power = self._power(inputs)
        white = self._white[:, np.newaxis]
        widths = self._widths[:, np.newaxis]
        of_signal = tf.reduce_mean(tf.reduce_sum(power * widths, axis=1), axis=-1)
        level = of_signal * 10 ** (-ratio / 10) / float(np.sum(self._white * self._widths))
        return self._log(power + level[:, tf.newaxis, tf.newaxis] * white)

    def mix(self, inputs: tf.Tensor, others: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        share = share[:, tf.newaxis, tf.newaxis]
        return self._log(self._power(inputs) * share**2 + self._power(others) * (1 - share) ** 2)

    def _power(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.exp((inputs * self._std + self._mean) * DECIBEL)

    def _log(self, power: tf.Tensor) -> tf.Tensor:
        return (tf.math.log(tf.maximum(power, POWER_FLOOR)) / DECIBEL - self._mean) / self._std


def _turned(inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Turn each row round along the last axis."""
    rows, length = tf.shape(inputs)[0], inputs.shape[-1]
    shifts = tf.random.stateless_uniform([rows, 1], seed, maxval=length, dtype=tf.int32)[:, 0]
    return tf.map_fn(lambda row: tf.roll(row[0], -row[1], axis=-1), (inputs, shifts), fn_output_signature=inputs.dtype)


def _places(hertz: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float64]:
    """Where frequencies lie on the mel scale, in knots: the first is at 0 Hz, the last at half the rate."""
    mel = np.log1p(np.asarray(hertz, np.float64) / 700)
    places: npt.NDArray[np.float64] = mel / np.log1p(sample_rate / 2 / 700) * (EQUALISER_KNOTS - 1)
    return places


def _curve(knots: tf.Tensor, places: npt.NDArray[np.float64]) -> tf.Tensor:
    """Float32 [rows, knots] -> float32 [rows, places], straight lines between the knots."""
    distance = np.abs(places[np.newaxis] - np.arange(EQUALISER_KNOTS)[:, np.newaxis])
    return tf.matmul(knots, tf.constant(np.maximum(0, 1 - distance), tf.float32))


def _beta(rows: Any, alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """Float32 [rows] of a symmetric beta distribution, the larger share first: the row stays the louder one."""
    first = tf.random.stateless_gamma([rows], seed, alpha)
    second = tf.random.stateless_gamma([rows], seed + 100, alpha)
    share = tf.math.divide_no_nan(first, first + second)
    return tf.maximum(share, 1 - share)


def recompressed(
    clips: npt.NDArray[np.float32], levels: npt.NDArray[np.float32], sample_rate: int
) -> npt.NDArray[np.float32]:
    """Write clips as MP3 and read them again.

    Args:
        clips: float32 [clips, samples]; what lies beyond full scale is clipped, as an encoder does.
        levels: float32 [clips], libsndfile's compression level from 0 to 1; below 0 a clip stays as it is.
        sample_rate: Hz.

    Returns:
        float32 [clips, samples].
    """
    changed = np.array(clips)
    for row, level in enumerate(levels):
        if level < 0:
            continue
        changed[row] = recoded(clips[row], sample_rate, float(level), "VARIABLE")
    return changed
