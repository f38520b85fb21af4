"""Liu and Yang's trained weights of 2016 (NumPy's npz, made with Theano) into ``liu_yang``.

Source: ``data/models/model.20160309_111546.npz`` and ``data/standardizers`` of the public repository clip2frame (ISC).
The arrays have no names; their order is: for each scale, the kernel and bias of its two convolutions, then those of the
three 1 x 1 ones, then the width of the Gaussian by which training smoothed the answers, which is not used. Kernels are
(out, in, frames, bands). Theano turned them round before it multiplied, so they are turned here. The standardisers are
files of their own, one mean and one deviation a scale.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import keras
import numpy as np

from models.liu_yang import N_FFTS
from preprocessing.errors import BadInputError
from serving.pretrained.layer_weights import Array, put_weights

ARRAYS: Final = 31
LARGEST: Final = 1 << 30
"""Bytes that one array may have when unpacked."""

_UNREADABLE: Final = (
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    MemoryError,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What zipfile and NumPy raise on damaged files."""

_CONVOLUTIONS: Final = tuple(f"scale_{n_fft}_{number}_conv" for n_fft in N_FFTS for number in (1, 2))
_POINTWISE: Final = ("dense_1", "dense_2", "logits")
_SMOOTHING: Final = f"arr_{ARRAYS - 1}"


def is_liu_yang(path: Path) -> bool:
    """Whether a file is an npz with as many nameless arrays as their network has."""
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == {f"arr_{number}.npy" for number in range(ARRAYS)}
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return False


def read_liu_yang(path: Path) -> dict[str, Array]:
    """Return the arrays as they are: ``arr_0`` ... ``arr_30``, and ``mean_512``, ``std_512`` ... of the standardisers.

    Args:
        path: the npz. The standardisers are ``mean_512.npy`` ... beside it, or where the repository has them:
            ``../standardizers/logmelspec10000.16000_512_512_128.0/mean.npy``.

    Raises:
        BadInputError: a file is missing or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if max(info.file_size for info in archive.infolist()) > LARGEST:
                raise BadInputError(f"{path}: an array is larger than {LARGEST >> 30} GiB")
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Array] = {name: file[name] for name in file.files}
        for n_fft in N_FFTS:
            for what in ("mean", "std"):
                arrays[f"{what}_{n_fft}"] = np.load(_standardiser(path, what, n_fft), allow_pickle=False)
    except _UNREADABLE as error:
        raise BadInputError(f"{path}: cannot be read: {error}") from error
    return arrays


def assign(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Put the arrays into a built ``liu_yang``.

    Raises:
        BadInputError: they are not that network's.
    """
    weights: dict[str, Array] = {}
    for number, layer in enumerate((*_CONVOLUTIONS, *_POINTWISE)):
        kernel, bias = arrays.get(f"arr_{2 * number}"), arrays.get(f"arr_{2 * number + 1}")
        if kernel is None or bias is None or kernel.ndim != 4:
            raise BadInputError(f"the weights are not those of {model.name}: arr_{2 * number} is no kernel with a bias")
        weights |= {f"{layer}/kernel": _kernel(kernel), f"{layer}/bias": bias}
    used = {f"arr_{number}" for number in range(len(weights))} | {_SMOOTHING}
    for n_fft in N_FFTS:
        standardised, mean, deviation = f"scale_{n_fft}_standardised", f"mean_{n_fft}", f"std_{n_fft}"
        if mean in arrays:
            weights[f"{standardised}/moving_mean"] = arrays[mean]
        if deviation in arrays:
            weights[f"{standardised}/moving_variance"] = np.square(arrays[deviation])
        used |= {mean, deviation}
    put_weights(model, {**weights, **{name: array for name, array in arrays.items() if name not in used}})


def _kernel(kernel: Array) -> Array:
    """(out, in, frames, bands) of Theano -> (frames, in or bands, out), or (in, out) of one frame."""
    turned = kernel[:, :, ::-1, ::-1]
    with_bands = turned[:, :, :, 0].swapaxes(1, 2) if turned.shape[3] == 1 else turned[:, 0]
    here = with_bands.transpose(1, 2, 0)
    return here[0] if len(here) == 1 else here


def _standardiser(path: Path, what: str, n_fft: int) -> Path:
    beside = path.parent / f"{what}_{n_fft}.npy"
    published = path.parent.parent / "standardizers" / f"logmelspec10000.16000_{n_fft}_512_128.0" / f"{what}.npy"
    return published if published.is_file() and not beside.is_file() else beside
