from __future__ import annotations

import numpy as np
import pytest

from models.branches import BRANCHES
from models.precision import in_float32
from preprocessing.constants import N_FRAMES, N_MELS


def test_mixed_precision_network_computes_as_the_float32_one() -> None:
    mixed = BRANCHES["mel_1d"].build(6, dtype="mixed_bfloat16", seed=3)
    exact = in_float32(mixed)
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    reference = BRANCHES["mel_1d"].build(6, dtype="float32", seed=3)
    mel = np.random.default_rng(1).normal(size=(2, N_MELS, N_FRAMES)).astype(np.float32)
    np.testing.assert_allclose(exact(mel), reference(mel), atol=1e-6)


@pytest.mark.parametrize("name", list(BRANCHES))
def test_every_branch_can_be_rebuilt_in_float32(name: str) -> None:
    mixed = BRANCHES[name].build(3, dtype="mixed_bfloat16")
    exact = in_float32(mixed)
    assert in_float32(exact) is exact
    for one, other in zip(mixed.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
