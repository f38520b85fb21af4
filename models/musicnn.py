"""MusiCNN: tall filters for timbre and long ones for rhythm over 3 s of log-mel, then a small dense temporal network.

Source: Pons and Serra (2019), musicnn: pre-trained convolutional neural networks for music audio tagging (arXiv
1909.06654), and the package of that name, whose trained weights fit. Trainable at 50 outputs, as those weights count:
787,159; with batch norm's averages 792,079. The larger version (512 channels in the middle, 500 units at the end) is
another pair of arguments.

TensorFlow 1's batch norm: epsilon 0.001, momentum 0.99, after the ReLU. The pooled vector has each channel's maximum
beside its mean, in the order in which the trained weights expect them. Dropouts and initial weights are the package's.
"""

from __future__ import annotations

import keras
from keras import layers

from models.initializers import SeedStream, glorot, seed_stream
from models.tensors import FloatTensor

MELS = 96
FRAMES = 187
"""Of 48,128 samples."""
TALL = (38, 67)
"""Bands under a tall filter: 0.4 and 0.7 of 96."""
TALL_FRAMES = 7
TALL_FILTERS = 204
LONG = (128, 64, 32)
"""Frames under a long filter."""
LONG_FILTERS = 51
MIDDLE_FRAMES = 7
DROPOUT = 0.5


def build_musicnn(
    n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0, middle: int = 64, hidden: int = 200
) -> keras.Model:
    """``log_mel`` (batch, 96, 187) log10(1 + 10,000 mel power) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the first batch norm and the logits are float32 in any.
        seed: of initial weights and dropouts.
        middle: channels of the temporal network.
        hidden: units of the layer before the logits.
    """
    next_seed = seed_stream(seed)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = layers.Reshape((MELS, FRAMES, 1), dtype="float32", name="channel")(log_mel)
    x = layers.BatchNormalization(dtype="float32", name="input_batch_norm")(x)
    features = [
        _loudest_band(x, TALL_FILTERS, (bands, TALL_FRAMES), f"tall_{bands}", next_seed, dtype) for bands in TALL
    ]
    features += [_loudest_band(x, LONG_FILTERS, (1, frames), f"long_{frames}", next_seed, dtype) for frames in LONG]
    x = layers.Concatenate(dtype=dtype, name="timbre_and_rhythm")(features)  # 187 x 561
    first = _over_time(x, middle, "middle_1", next_seed, dtype)
    second = layers.Add(dtype=dtype, name="sum_2")([_over_time(first, middle, "middle_2", next_seed, dtype), first])
    third = layers.Add(dtype=dtype, name="sum_3")([_over_time(second, middle, "middle_3", next_seed, dtype), second])
    x = layers.Concatenate(dtype=dtype, name="all_levels")([x, first, second, third])  # 187 x 753
    x = layers.BatchNormalization(dtype=dtype, name="pooled_batch_norm")(_max_beside_mean(x, dtype))
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout_1")(x)
    x = layers.Dense(hidden, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense")(x)
    x = layers.BatchNormalization(dtype=dtype, name="dense_batch_norm")(x)
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout_2")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name="musicnn")


def _loudest_band(
    x: FloatTensor, filters: int, kernel: tuple[int, int], name: str, next_seed: SeedStream, dtype: str | None
) -> FloatTensor:
    """(batch, 96, 187, 1) -> (batch, 187, filters): the largest answer of each filter along the bands.

    Frames are padded with zeros; bands are not, so that a tall filter has 97 - kernel[0] places.
    """
    if kernel[0] > 1:
        x = layers.ZeroPadding2D((0, kernel[1] // 2), dtype=dtype, name=f"{name}_padding")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        padding="valid" if kernel[0] > 1 else "same",
        activation="relu",
        kernel_initializer=glorot(next_seed),
        dtype=dtype,
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(dtype=dtype, name=f"{name}_batch_norm")(x)
    x = layers.MaxPooling2D((x.shape[1], 1), dtype=dtype, name=f"{name}_max")(x)
    return layers.Reshape((FRAMES, filters), dtype=dtype, name=f"{name}_features")(x)


def _over_time(x: FloatTensor, filters: int, name: str, next_seed: SeedStream, dtype: str | None) -> FloatTensor:
    """(batch, 187, channels) -> (batch, 187, filters)."""
    x = layers.Conv1D(
        filters,
        MIDDLE_FRAMES,
        padding="same",
        activation="relu",
        kernel_initializer=glorot(next_seed),
        dtype=dtype,
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(dtype=dtype, name=f"{name}_batch_norm")(x)


def _max_beside_mean(x: FloatTensor, dtype: str | None) -> FloatTensor:
    """(batch, 187, channels) -> (batch, 2 * channels): maximum 0, mean 0, maximum 1, mean 1 ..."""
    loudest = layers.GlobalMaxPooling1D(keepdims=True, dtype=dtype, name="time_max")(x)
    mean = layers.GlobalAveragePooling1D(keepdims=True, dtype=dtype, name="time_mean")(x)
    both = layers.Concatenate(axis=1, dtype=dtype, name="max_and_mean")([loudest, mean])
    return layers.Flatten(dtype=dtype, name="pooled")(layers.Permute((2, 1), dtype=dtype, name="by_channel")(both))
