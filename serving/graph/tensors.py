"""Names for tensors in signatures of the served graph, by what they hold; shapes stand in the docstrings.

TensorFlow comes without types, so the names are for readers and editors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf

FloatTensor: TypeAlias = "tf.Tensor"
IntTensor: TypeAlias = "tf.Tensor"
"""Int32 or int64."""
BoolTensor: TypeAlias = "tf.Tensor"
StringTensor: TypeAlias = "tf.Tensor"
"""Byte strings."""
Tensor: TypeAlias = "tf.Tensor"
"""Of any type."""
Tensors: TypeAlias = "dict[str, tf.Tensor]"
"""By name: inputs or outputs of a signature."""
Compute: TypeAlias = "Callable[[tf.Tensor], tf.Tensor]"
"""Waveforms float32 [n, samples] -> float32 [n, width]."""
ConcreteFunction: TypeAlias = "tf.types.experimental.ConcreteFunction"
"""A traced graph."""
