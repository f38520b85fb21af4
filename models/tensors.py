"""Names for tensors in networks' signatures, by what they hold; shapes stand in the docstrings.

Keras says KerasTensor for those of a model that is built; layers are given the backend's. Keras comes without types,
so the names are for readers and editors. Nothing is imported while a program runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

FloatTensor: TypeAlias = "keras.KerasTensor"
"""Float32, or what a network computes in."""
IntTensor: TypeAlias = "keras.KerasTensor"
BoolTensor: TypeAlias = "keras.KerasTensor"
Compute: TypeAlias = "Callable[[keras.KerasTensor], keras.KerasTensor]"
"""Windows float32 [n, samples] -> float32 [n, ...]."""
