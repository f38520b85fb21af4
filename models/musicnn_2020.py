"""Musicnn of the 2020 comparison: tall and long filters over 3 s of log-mel, then a small temporal network.

Source: Pons et al. (2018) as Won et al. (2020) rebuilt it in PyTorch (arXiv 2006.00751, public code model.py). It is
another network than the musicnn package's: batch norm comes before ReLU, and the mean over the bands before the long
filters. Trainable at 50 outputs, as its published weights count: 784,300; the version that was trained on the Million
Song Dataset (512 channels in the middle, 500 units at the end) 7,972,000.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks, torch_uniform
from models.tensors import FloatTensor

MELS = 96
FRAMES = 188
"""Of 48,000 samples."""
TALL = (67, 38)
"""Bands under a tall filter, of which there are 204 each: 0.7 and 0.4 of 96."""
TALL_FILTERS = 204
TALL_FRAMES = 7
LONG = (129, 65, 33)
"""Frames under a long filter, of which there are 51 each."""
LONG_FILTERS = 51


def build_musicnn_2020(
    n_outputs: int = 50,
    *,
    dtype: str | None = None,
    seed: int = 0,
    middle: int = 64,
    hidden: int = 200,
    name: str = "musicnn_2020",
) -> keras.Model:
    """``log_mel`` (batch, 96, 188) dB -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the first batch norm and the logits are float32 in any.
        seed: of initial weights and dropouts.
        middle: channels of the temporal network.
        hidden: units of the layer before the logits.
        name: of the network.
    """
    blocks = Blocks.seeded(seed, dtype)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    features = [_tall(blocks, x, bands) for bands in TALL]
    mean = layers.AveragePooling2D((MELS, 1), dtype="float32", name="band_mean")(x)
    contour = layers.Reshape((FRAMES, 1), dtype=dtype, name="contour")(mean)
    features += [blocks.conv_block(contour, LONG_FILTERS, f"long_{frames}", frames) for frames in LONG]
    x = layers.Concatenate(dtype=dtype, name="timbre_and_contour")(features)  # 188 x 561
    first = blocks.conv_block(x, middle, "block_1", 7)
    second = layers.Add(dtype=dtype, name="sum_2")([blocks.conv_block(first, middle, "block_2", 7), first])
    third = layers.Add(dtype=dtype, name="sum_3")([blocks.conv_block(second, middle, "block_3", 7), second])
    x = layers.Concatenate(dtype=dtype, name="all_levels")([x, first, second, third])  # 188 x 753
    loudest = layers.GlobalMaxPooling1D(dtype=dtype, name="time_max")(x)
    mean = layers.GlobalAveragePooling1D(dtype=dtype, name="time_mean")(x)
    x = layers.Concatenate(dtype=dtype, name="max_and_mean")([loudest, mean])
    x = blocks.hidden_head(x, hidden)
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name=name)


def _tall(blocks: Blocks, x: FloatTensor, bands: int) -> FloatTensor:
    """(batch, 96, 188, 1) -> (batch, 188, 204): the best place of each filter along the bands."""
    name = f"tall_{bands}"
    x = layers.ZeroPadding2D((0, TALL_FRAMES // 2), dtype=blocks.dtype, name=f"{name}_padding")(x)
    x = layers.Conv2D(
        TALL_FILTERS,
        (bands, TALL_FRAMES),
        kernel_initializer=torch_uniform(blocks.next_seed),
        dtype=blocks.dtype,
        name=f"{name}_conv",
    )(x)
    x = blocks.relu(blocks.batch_norm(x, f"{name}_batch_norm"), f"{name}_relu")
    x = layers.MaxPooling2D((x.shape[1], 1), dtype=blocks.dtype, name=f"{name}_max")(x)
    return layers.Reshape((x.shape[2], TALL_FILTERS), dtype=blocks.dtype, name=f"{name}_features")(x)
