"""A model's features and networks as TensorFlow graphs without variables, checks and loops: what engines convert.

The SavedModel's signatures check what a server was sent and work off large requests in parts; neither converts, and an
engine in one's own process needs neither. So the graphs are traced from the layers and networks themselves, in float32:
each feature (front end, resampling and windows) apart from the networks, because a feature must stay in float32 where
an engine computes a network in less.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from serving.graph.ensemble import Ensemble
from serving.graph.tensors import ConcreteFunction, Tensor

WAVEFORM = "waveform"


def feature_shapes(ensemble: Ensemble, clips: int | None) -> dict[str, tuple[int | None, ...]]:
    """Feature -> shape of what the networks read of so many clips, in the order in which they take them."""
    features = tf.function(ensemble.features, autograph=False).get_concrete_function(_waveform(ensemble, clips))
    return {name: tuple(tensor.shape) for name, tensor in features.structured_outputs.items()}


def frozen_feature(ensemble: Ensemble, feature: str, clips: int | None) -> ConcreteFunction:
    """Return the concrete function waveform float32 [clips, samples] -> one feature, float32, before normalisation."""
    return freeze(lambda waveform: ensemble.features(waveform)[feature], [_waveform(ensemble, clips)])


def frozen_network(ensemble: Ensemble, clips: int | None) -> ConcreteFunction:
    """Return the concrete function from all features, in their order, to probabilities float32 [clips, n_tags].

    ``clips`` None leaves it open.
    """
    shapes = feature_shapes(ensemble, clips)
    return freeze(
        lambda *values: ensemble.from_features(dict(zip(shapes, values, strict=True))),
        [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()],
    )


def _waveform(ensemble: Ensemble, clips: int | None) -> tf.TensorSpec:
    return tf.TensorSpec([clips, ensemble.clip.samples], tf.float32, name=WAVEFORM)


def freeze(function: Callable[..., Tensor], signature: list[tf.TensorSpec]) -> ConcreteFunction:
    """Return a function's graph with its variables as constants and its loops whole, which both converters need."""
    concrete = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
