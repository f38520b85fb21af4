"""The 2020 comparison's networks at the shapes that its public code has on the way."""

from __future__ import annotations

import pytest

from models.registry import find_network

ROWS: dict[str, dict[str, tuple[int, ...]]] = {
    "fcn": {
        "block_1_pool": (48, 453, 64),
        "block_2_pool": (24, 113, 128),
        "block_3_pool": (12, 28, 128),
        "block_4_pool": (4, 5, 128),
        "block_5_pool": (1, 1, 64),
    },
    "crnn": {
        "block_1_pool": (48, 906, 64),
        "block_2_pool": (16, 302, 128),
        "block_3_pool": (4, 75, 128),
        "block_4_pool": (1, 18, 128),
        "gru_1": (18, 32),
        "gru_2": (32,),
    },
    "musicnn_2020": {
        "tall_67_conv": (30, 188, 204),
        "tall_38_conv": (59, 188, 204),
        "long_129_conv": (188, 51),
        "timbre_and_contour": (188, 561),
        "all_levels": (188, 753),
        "max_and_mean": (1506,),
        "dense": (200,),
    },
    "musicnn_2020_msd": {"block_3_conv": (188, 512), "max_and_mean": (4194,), "dense": (500,)},
    "sample_cnn": {
        "block_1_relu": (19_683, 128),
        "block_2_pool": (6_561, 128),
        "block_4_pool": (729, 256),
        "block_10_pool": (1, 512),
        "block_11_relu": (1, 512),
    },
    "sample_cnn_se": {
        "block_1_relu_2": (19_683, 128),
        "block_4_pool": (729, 256),
        "block_11_relu_2": (1, 512),
        "dense": (512,),
    },
    "short_chunk": {"block_1_pool": (64, 115, 128), "block_4_pool": (8, 14, 256), "block_7_pool": (1, 1, 512)},
    "short_chunk_res": {
        "block_1_relu_2": (64, 116, 128),
        "block_4_relu_2": (8, 15, 256),
        "block_7_relu_2": (1, 2, 512),
        "time_max": (512,),
    },
    "self_attention": {
        "block_3_relu_2": (16, 118, 256),
        "block_7_relu_2": (1, 118, 256),
        "token": (119, 256),
        "encoder_2_dense_layer_norm": (119, 256),
        "features": (256,),
    },
    "harmonic_cnn": {
        "channels_last": (128, 313, 6),
        "block_4_pool": (8, 19, 128),
        "block_5_pool": (4, 9, 256),
        "block_7_pool": (1, 1, 256),
        "dense": (256,),
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_output_shapes_and_trained_weights_are_those_of_the_public_code(name: str) -> None:
    entry = find_network(name)
    network = entry.build()
    assert network.input.shape == (None, *entry.input_shape)
    assert {layer: tuple(network.get_layer(layer).output.shape[1:]) for layer in ROWS[name]} == ROWS[name]
    trained = sum(weight.shape.num_elements() for weight in network.trainable_weights)
    assert (trained, network.count_params()) == (entry.published_parameters, entry.parameters)


@pytest.mark.parametrize("name", ROWS)
def test_batch_norm_is_pytorch_s(name: str) -> None:
    norms = [layer for layer in find_network(name).build().layers if layer.name.endswith("batch_norm")]
    assert norms
    assert {(layer.epsilon, layer.momentum) for layer in norms} == {(1e-5, 0.9)}
