"""Liu and Yang's network: log-mel with six lengths of window side by side, answers for each half second, their mean.

Source: Liu and Yang (2016), Event localization in music auto-tagging (ACM Multimedia), and its public code
(clip2frame), whose trained weights fit (188 tags of MagnaTagATune, 704,060 trainable; with the six scales' means and
deviations 705,596). Each scale goes through two convolutions along time over all bands; then everything is 1 x 1, so
that the answers keep their place in time.

The source standardises each band by the training set's mean and deviation. Here a batch norm without weights that train
stands for it: it learns both, or takes the published ones. A clip's probability is the mean over time; it is given back
as a logit, since the activation of a network's head stands outside it. For a clip's answer the source smooths each tag
over time by a Gaussian before that mean; here it does not, as the mean takes most of it back.
"""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import layers, ops

from models.initializers import glorot, seed_stream
from models.tensors import FloatTensor

N_FFTS: Final = (512, 1024, 2048, 4096, 8192, 16384)
"""Windows of the scales, in the order of the input and of the trained weights."""
MELS = 128
FRAMES = 910
"""Of 465,600 samples."""
FILTERS = 32
FILTER_FRAMES = 8
POOL = 4
HIDDEN = 512
DROPOUT = 0.5
LEAST_PROBABILITY: Final = 1e-30
EPSILON: Final = 1e-6
"""Added to a band's variance."""


@keras.saving.register_keras_serializable(package="autotag")
class LogitOfMeanProbability(layers.Layer):  # type: ignore[misc]
    """Logit of the mean over time of probabilities.

    Call: logits (batch, time, outputs) float -> (batch, outputs) float32, always computed in float32.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, logits: FloatTensor) -> FloatTensor:
        """See the class. Yes and no are averaged apart, so that neither is lost near 1."""
        yes, no = (ops.mean(ops.sigmoid(sign * logits), axis=1) for sign in (1.0, -1.0))
        return ops.log(ops.maximum(yes, LEAST_PROBABILITY)) - ops.log(ops.maximum(no, LEAST_PROBABILITY))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, outputs)."""
        return input_shape[0], input_shape[2]


def build_liu_yang(n_outputs: int = 188, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mels`` (batch, 6, 128, 910) ln(1 + 10,000 mel power) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the standardisation, the logits and their mean are float32 in any.
        seed: of initial weights and dropouts.
    """
    next_seed = seed_stream(seed)

    def conv(x: FloatTensor, name: str) -> FloatTensor:
        """(batch, time, channels) -> (batch, ceil(time / 4), 32)."""
        x = layers.ZeroPadding1D((0, FILTER_FRAMES - 1), dtype=dtype, name=f"{name}_padding")(x)
        x = layers.Conv1D(
            FILTERS,
            FILTER_FRAMES,
            activation="relu",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"{name}_conv",
        )(x)
        if rest := -x.shape[1] % POOL:
            x = layers.ZeroPadding1D((0, rest), dtype=dtype, name=f"{name}_pool_padding")(x)
        return layers.MaxPooling1D(POOL, dtype=dtype, name=f"{name}_pool")(x)

    log_mels = keras.Input((len(N_FFTS), MELS, FRAMES), name="log_mels")
    by_time = layers.Permute((1, 3, 2), dtype="float32", name="by_time")(log_mels)
    scales = []
    for number, n_fft in enumerate(N_FFTS):
        x = layers.Cropping2D(
            ((number, len(N_FFTS) - 1 - number), (0, 0)), dtype="float32", name=f"scale_{n_fft}_only"
        )(by_time)
        x = layers.Reshape((FRAMES, MELS), dtype="float32", name=f"scale_{n_fft}")(x)
        x = layers.BatchNormalization(
            center=False, scale=False, epsilon=EPSILON, dtype="float32", name=f"scale_{n_fft}_standardised"
        )(x)
        scales.append(conv(conv(x, f"scale_{n_fft}_1"), f"scale_{n_fft}_2"))
    x = layers.Concatenate(dtype=dtype, name="all_scales")(scales)  # 57 x 192
    for number in (1, 2):
        x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name=f"dropout_{number}")(x)
        x = layers.Dense(
            HIDDEN, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name=f"dense_{number}"
        )(x)
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout_3")(x)
    x = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mels, LogitOfMeanProbability(name="mean_over_time")(x), name="liu_yang")
