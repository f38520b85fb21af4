"""Short-time Fourier transform from operators that every runtime has: slices, reshapes and two small matrix products.

TensorFlow's and ONNX's own Fourier operators convert badly or not at all (LiteRT has none for float32 in its built-in
set that takes batches, ONNX Runtime's ``DFT`` is slow), and their framing gathers by an index as large as the frames.
Here a frame is several hops and a piece of one, and the transform of ``n = rows * columns`` samples is Cooley and
Tukey's: a transform of ``rows`` points over every ``columns``-th sample, a rotation, and one of ``columns`` points.
Where n is prime, ``columns`` is 1 and one plain matrix product remains.

As the input is real, X[n - k] is the conjugate of X[k]: half of the first transform's outputs hold all powers. With
sample ``columns * a + b`` and frequency ``c + rows * d`` the powers come in the order [c, d], c <= rows // 2.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from keras import ops

from models.front_ends.settings import Pad
from models.tensors import FloatTensor

Single = npt.NDArray[np.float32]


def padded(waveform: FloatTensor, n_fft: int, pad: Pad) -> FloatTensor:
    """[batch, samples] -> with half a frame more on each side, or as it was."""
    margin = n_fft // 2
    if pad == "none":
        return waveform
    if pad == "constant":
        return ops.pad(waveform, ((0, 0), (margin, margin)))
    return ops.pad(waveform, ((0, 0), (margin, margin)), mode="reflect")


def frames_of(signal: FloatTensor, n_fft: int, hop_length: int) -> FloatTensor:
    """[batch, samples] -> [batch * frames, n_fft], as many frames as fit in."""
    samples = signal.shape[1]
    count = 1 + (samples - n_fft) // hop_length
    whole, rest = divmod(n_fft, hop_length)
    hops = count + whole - (rest == 0)
    missing = hops * hop_length - samples
    if missing > 0:
        signal = ops.pad(signal, ((0, 0), (0, missing)))
    by_hop = ops.reshape(signal[:, : hops * hop_length], (-1, hops, hop_length))
    pieces = [by_hop[:, first : first + count] for first in range(whole)]
    if rest:
        pieces.append(by_hop[:, whole : whole + count, :rest])
    return ops.reshape(pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, axis=2), (-1, n_fft))


def power_spectrum(frames: FloatTensor) -> FloatTensor:
    """[n, n_fft] float32 -> [n, size] powers of the windowed frames, in the order that ``places`` gives."""
    n_fft = frames.shape[1]
    rows, columns = factors(n_fft)
    half = rows // 2 + 1
    windowed = frames * _constant(hann_window(n_fft))
    if columns == 1:
        both = ops.matmul(windowed, _constant(_first_transform(rows).T))
        return ops.square(both[:, :half]) + ops.square(both[:, half:])
    both = ops.matmul(_constant(_first_transform(rows)), ops.reshape(windowed, (-1, rows, columns)))
    real, imaginary = both[:, :half], both[:, half:]  # [n, c, b] each
    cosine, sine = (_constant(part) for part in _rotation(rows, columns))
    turned = ops.concatenate([real * cosine + imaginary * sine, imaginary * cosine - real * sine], axis=2)
    spectrum = ops.matmul(ops.reshape(turned, (-1, 2 * columns)), _constant(_second_transform(columns)))
    power = ops.square(spectrum[:, :columns]) + ops.square(spectrum[:, columns:])
    return ops.reshape(power, (-1, half * columns))


def places(n_fft: int) -> npt.NDArray[np.int64]:
    """[n_fft // 2 + 1] places of the frequencies, lowest first, in what ``power_spectrum`` gives."""
    rows, columns = factors(n_fft)
    d, c = np.divmod(np.arange(n_fft // 2 + 1), rows)
    mirrored = c > rows // 2
    place: npt.NDArray[np.int64] = np.where(mirrored, (rows - c) * columns + (columns - 1 - d), c * columns + d)
    return place


def size(n_fft: int) -> int:
    """Number of powers that ``power_spectrum`` gives, a few more than there are frequencies."""
    rows, columns = factors(n_fft)
    return (rows // 2 + 1) * columns


@functools.cache
def factors(n_fft: int) -> tuple[int, int]:
    """(rows, columns) of the least multiplications; (n_fft, 1) where it is prime."""
    pairs = [(n_fft // columns, columns) for columns in range(1, n_fft) if n_fft % columns == 0]
    return min(pairs, key=lambda pair: _multiplications(*pair))


def _multiplications(rows: int, columns: int) -> int:
    half = rows // 2 + 1
    first, second = rows * columns * 2 * half, 4 * columns * columns * half
    return first + (second if columns > 1 else 0)


@functools.cache
def hann_window(n_fft: int) -> Single:
    """Periodic Hann window."""
    return _single(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))


@functools.cache
def _first_transform(rows: int) -> Single:
    """[real c | imaginary c, a]."""
    cosine, sine = _circle(np.outer(np.arange(rows // 2 + 1), np.arange(rows)), rows)
    return _single(np.vstack([cosine, -sine]))


@functools.cache
def _rotation(rows: int, columns: int) -> tuple[Single, Single]:
    """Cosine and sine, [c, b] each."""
    cosine, sine = _circle(np.outer(np.arange(rows // 2 + 1), np.arange(columns)), rows * columns)
    return _single(cosine), _single(sine)


@functools.cache
def _second_transform(columns: int) -> Single:
    """[real b | imaginary b, real d | imaginary d]."""
    cosine, sine = _circle(np.outer(np.arange(columns), np.arange(columns)), columns)
    return _single(np.block([[cosine, -sine], [sine, cosine]]))


def _circle(steps: npt.NDArray[np.int64], period: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    angles = 2 * np.pi * (steps % period) / period
    return np.cos(angles), np.sin(angles)


def _single(values: npt.NDArray[np.float64]) -> Single:
    return values.astype(np.float32)


def _constant(values: Single) -> FloatTensor:
    return ops.convert_to_tensor(values, dtype="float32")
