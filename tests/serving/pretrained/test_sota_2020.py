from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import librosa
import numpy as np
import pytest
import scipy.special
from lowering import on_litert, on_onnx_runtime
from torch_files import legacy_file, tensors

from models.front_ends.mel import mel_filterbank
from models.registry import NETWORKS, find_network
from preprocessing.audio.loading import load_audio
from preprocessing.errors import BadInputError
from serving.pretrained.catalogue import TAGS_FOLDER, read_tag_list
from serving.pretrained.convert import load_weights
from serving.pretrained.sota_2020 import NETWORKS as OF_THE_COMPARISON
from serving.pretrained.sota_2020 import assign
from serving.pretrained.torch_file import read_state_dict

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "sota"
CLIP = SHARED / "mtat" / "audio" / "joram-moments_of_clarity-08-solipsism-59-88.mp3"
CHUNKS = 16

Array = np.ndarray[Any, Any]
StateDict = dict[str, Array]
Shapes = Iterator[tuple[str, tuple[int, ...]]]

STATED = {
    "mtat/fcn": {"fast": 0.524, "techno": 0.417, "electronic": 0.232},
    "mtat/crnn": {"techno": 0.799, "electronic": 0.630, "beat": 0.437},
    "mtat/musicnn": {"techno": 0.667, "electronic": 0.591, "synth": 0.428},
}
"""Means over 16 chunks of the real clip, by another port of the published code."""

LOUDEST = {
    "msd/fcn": "electronic",
    "msd/crnn": "electronic",
    "jamendo/fcn": "genre---electronic",
    "jamendo/crnn": "genre---electronic",
    "jamendo/musicnn": "genre---electronic",
}
"""Most probable tag of the real clip, which its annotators call techno and electronic."""

NETWORK_OF = {"fcn": "fcn", "crnn": "crnn", "musicnn": "musicnn_2020"}


def published_file(name: str) -> Path:
    path = WEIGHTS / f"{name}.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="module")
def clip() -> Array:
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not there")
    return load_audio(CLIP.read_bytes())


@pytest.mark.parametrize("name", [*STATED, *LOUDEST])
def test_published_weights_answer_for_the_real_clip_as_stated(name: str, clip: Array) -> None:
    """No weight is left over or missing: load_weights refuses that."""
    data, _, folder = name.partition("/")
    network = find_network(NETWORK_OF[folder])
    model = load_weights(network, published_file(name), 50)
    assert network.front_end is not None
    step = (len(clip) - network.window_samples) // CHUNKS
    chunks = np.stack([clip[number * step :][: network.window_samples] for number in range(CHUNKS)])
    logits = keras.ops.convert_to_numpy(model(network.front_end.layer()(chunks), training=False))
    answers = dict(
        zip(read_tag_list(TAGS_FOLDER / f"{data}_50.txt"), scipy.special.expit(logits).mean(axis=0), strict=True)
    )
    if name in STATED:
        assert {tag: answers[tag] for tag in STATED[name]} == pytest.approx(STATED[name], abs=1e-3)
    else:
        assert max(answers, key=lambda tag: answers[tag]) == LOUDEST[name]
        assert 0 < min(answers.values()) < max(answers.values()) < 1


@pytest.mark.parametrize("name", [*STATED, *LOUDEST])
def test_published_weights_answer_alike_on_litert_and_onnx_runtime(name: str, clip: Array) -> None:
    network = find_network(NETWORK_OF[name.partition("/")[2]])
    model = load_weights(network, published_file(name), 50)
    assert network.front_end is not None
    front_end = network.front_end.layer()
    window = clip[np.newaxis, : network.window_samples]

    def logits(waveform: Any) -> Any:
        return model(front_end(waveform), training=False)

    expected = keras.ops.convert_to_numpy(logits(window))
    np.testing.assert_allclose(on_litert(logits, window), expected, rtol=0, atol=2e-3)
    np.testing.assert_allclose(on_onnx_runtime(logits, window), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", [*STATED, *LOUDEST])
def test_mel_filters_in_a_published_file_are_ours_and_librosa_s(name: str) -> None:
    published = read_state_dict(published_file(name))["spec.mel_scale.fb"]
    ours = mel_filterbank(16_000, 512, 96, 0.0, 8_000.0, htk=True, area_norm=False)
    theirs = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96, htk=True, norm=None).T
    np.testing.assert_allclose(published, ours, rtol=0, atol=1e-4)
    np.testing.assert_allclose(published, theirs, rtol=0, atol=1e-4)


def test_weights_of_another_network_or_front_end_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"fcn\.pth: the weights are not those of crnn: block_5_.* is left over"):
        load_weights(find_network("crnn"), published_file("mtat/fcn"), 50)
    with pytest.raises(BadInputError, match=r"trained on another spectrogram: spec\.mel_scale\.fb differs from ours"):
        load_weights(find_network("short_chunk"), published_file("mtat/fcn"), 50)
    with pytest.raises(BadInputError, match=r"logits/bias is \[50\], expected \[10\]"):
        load_weights(find_network("fcn"), published_file("msd/fcn"), 10)
    with pytest.raises(BadInputError, match=r"holds weights of fcn, crnn, musicnn_2020, .*, not of vgg"):
        load_weights(find_network("vgg"), published_file("mtat/fcn"), 50)


# State dicts as the public code would save them: names and shapes of its modules, values made up.


def conv(name: str, given: int, filters: int, *kernel: int) -> Shapes:
    yield f"{name}.weight", (filters, given, *kernel)
    yield f"{name}.bias", (filters,)


def linear(name: str, given: int, units: int) -> Shapes:
    yield f"{name}.weight", (units, given)
    yield f"{name}.bias", (units,)


def norm(name: str, width: int) -> Shapes:
    for parameter in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{parameter}", (width,)
    yield f"{name}.num_batches_tracked", ()


def conv_block(name: str, given: int, filters: int, *kernel: int) -> Shapes:
    yield from conv(f"{name}.conv", given, filters, *kernel)
    yield from norm(f"{name}.bn", filters)


def residual(name: str, given: int, filters: int, *kernel: int, strided: bool = False, squeeze: bool = False) -> Shapes:
    for number, (wide, shortcut) in enumerate(((given, False), (filters, False), (given, True)), start=1):
        if not shortcut or strided or given != filters:
            yield from conv(f"{name}.conv_{number}", wide, filters, *kernel)
            yield from norm(f"{name}.bn_{number}", filters)
    for number in (1, 2) if squeeze else ():
        yield from linear(f"{name}.dense{number}", filters, filters)


def hidden_head(given: int, units: int, tags: int) -> Shapes:
    yield from linear("dense1", given, units)
    yield from norm("bn", units)
    yield from linear("dense2", units, tags)


def pairs(*widths: int) -> list[tuple[str, int, int]]:
    return [(f"layer{n}", a, b) for n, (a, b) in enumerate(pairwise(widths), start=1)]


SAMPLE_WIDTHS = (1, 128, 128, 128, *[256] * 6, 512, 512)
SHORT_WIDTHS = (1, 128, 128, *[256] * 4, 512)


def layers_of(network: str, tags: int) -> Shapes:
    if network.startswith("sample_cnn"):
        for name, given, filters in pairs(*SAMPLE_WIDTHS):
            size = 1 if name == "layer11" else 3
            if network == "sample_cnn":
                yield from conv_block(name, given, filters, size)
            else:
                yield from residual(name, given, filters, size, strided=name == "layer1", squeeze=True)
        yield from linear("dense", 512, tags) if network == "sample_cnn" else hidden_head(512, 512, tags)
    elif network == "harmonic_cnn":
        yield "hstft.bw_Q", (1,)
        yield from norm("hstft_bn", 6)
        for name, given, filters in pairs(6, 128, 128, 128, 128, 256, 256, 256):
            block = conv_block if name in ("layer1", "layer5") else residual
            yield from block(name, given, filters, 3, 3)
        yield from hidden_head(256, 256, tags)
    else:
        yield from norm("spec_bn", 1)
        yield from mel_layers_of(network, tags)


def mel_layers_of(network: str, tags: int) -> Shapes:
    match network:
        case "fcn" | "crnn" | "short_chunk":
            widths = {"fcn": (1, 64, 128, 128, 128, 64), "crnn": (1, 64, 128, 128, 128)}.get(network, SHORT_WIDTHS)
            for name, given, filters in pairs(*widths):
                yield from conv_block(name, given, filters, 3, 3)
            for number, given in enumerate((128, 32) if network == "crnn" else ()):
                yield f"layer5.weight_ih_l{number}", (96, given)
                yield f"layer5.weight_hh_l{number}", (96, 32)
                yield f"layer5.bias_ih_l{number}", (96,)
                yield f"layer5.bias_hh_l{number}", (96,)
            if network == "short_chunk":
                yield from hidden_head(512, 512, tags)
            else:
                yield from linear("dense", 64 if network == "fcn" else 32, tags)
        case "musicnn_2020" | "musicnn_2020_msd":
            middle, units = (64, 200) if network == "musicnn_2020" else (512, 500)
            for number, bands in enumerate((67, 38)):
                yield from conv_block(f"layers.{number}", 1, 204, bands, 7)
            for number, frames in enumerate((129, 65, 33), start=2):
                yield from conv_block(f"layers.{number}", 1, 51, frames)
            for name, given, filters in pairs(561, middle, middle, middle):
                yield from conv_block(name, given, filters, 7)
            yield from hidden_head((561 + 3 * middle) * 2, units, tags)
        case "short_chunk_res":
            for name, given, filters in pairs(*SHORT_WIDTHS):
                yield from residual(name, given, filters, 3, 3, strided=True)
            yield from hidden_head(512, 512, tags)
        case "self_attention":
            for name, given, filters in pairs(1, 128, 128, *[256] * 5):
                yield from residual(name, given, filters, 3, 3, strided=True)
            for number in (0, 1):
                yield from encoder_layer(f"encoder.layer.{number}")
            yield from linear("pooler.dense", 256, 256)
            yield from linear("dense", 256, tags)


def encoder_layer(name: str) -> Shapes:
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        yield from linear(f"{name}.attention.{part}", 256, 256)
    yield from linear(f"{name}.intermediate.dense", 256, 1024)
    yield from linear(f"{name}.output.dense", 1024, 256)
    for part in ("attention.output", "output"):
        yield f"{name}.{part}.LayerNorm.weight", (256,)
        yield f"{name}.{part}.LayerNorm.bias", (256,)


def made_up(network: str, tags: int) -> StateDict:
    rng = np.random.default_rng(7)
    values = {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in layers_of(network, tags)}
    for name in values:
        if name.endswith("running_var"):
            values[name] = 1 + np.abs(values[name])
        elif name.endswith("num_batches_tracked"):
            values[name] = np.array(100, np.int64)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)).astype(np.float32)
    if network == "harmonic_cnn":
        values["hstft.spec.window"] = window
    elif not network.startswith("sample_cnn"):
        values["spec.spectrogram.window"] = window
        bands = find_network(network).input_shape[0]
        filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=bands, htk=True, norm=None)
        values["spec.mel_scale.fb"] = np.ascontiguousarray(filters.T)
    return values


def loaded(network: str, values: StateDict, folder: Path, tags: int = 7) -> keras.Model:
    path = folder / "best_model.pth"
    path.write_bytes(legacy_file(tensors(values)))
    return load_weights(find_network(network), path, tags)


def answer(model: keras.Model, first: str, last: str, inputs: Array) -> Array:
    """What the layers from one to another give."""
    part = keras.Model(model.get_layer(first).output, model.get_layer(last).output)
    given: Array = keras.ops.convert_to_numpy(part(inputs, training=False))
    return given


@pytest.mark.parametrize("network", OF_THE_COMPARISON)
def test_state_dict_of_the_public_code_fills_every_weight(network: str, tmp_path: Path) -> None:
    values = made_up(network, 7)
    model = loaded(network, values, tmp_path)
    constants = ("num_batches_tracked", "window", "fb")
    expected = np.sort(np.concatenate([v.ravel() for k, v in values.items() if not k.endswith(constants)]))
    ours = np.sort(np.concatenate([np.ravel(weight) for weight in model.get_weights()]))
    np.testing.assert_array_equal(ours, expected)


def test_every_network_of_the_comparison_is_in_the_registry() -> None:
    assert {name for name, entry in NETWORKS.items() if "2006.00751" in entry.source} == set(OF_THE_COMPARISON)


def test_weight_that_is_missing_left_over_or_of_another_shape_is_named() -> None:
    model, values = find_network("crnn").build(7), made_up("crnn", 7)
    with pytest.raises(BadInputError, match=r"not those of crnn: layer9\.weight is left over$"):
        assign(model, {**values, "layer9.weight": np.zeros(3, np.float32)})
    for name, said in (
        ("layer2.conv.bias", "block_2_conv/bias is missing"),
        ("layer5.bias_hh_l1", "gru_2/gru_cell/bias is missing"),
        ("spec.mel_scale.fb", r"spec\.mel_scale\.fb, its front end's, is missing"),
    ):
        with pytest.raises(BadInputError, match=said):
            assign(model, {other: value for other, value in values.items() if other != name})
    with pytest.raises(BadInputError, match=r"block_1_conv/kernel is \[3, 64\], expected \[3, 3, 1, 64\]"):
        assign(model, {**values, "layer1.conv.weight": np.zeros((64, 3), np.float32)})
    with pytest.raises(BadInputError, match=r"a recurrent layer of \[95\]"):
        assign(model, {**values, "layer5.bias_hh_l1": np.zeros(95, np.float32)})
    with pytest.raises(BadInputError, match="another spectrogram: spec.spectrogram.window"):
        assign(model, {**values, "spec.spectrogram.window": np.ones(512, np.float32)})


def test_recurrent_layers_follow_pytorch_s_equations(tmp_path: Path) -> None:
    values = made_up("crnn", 7)
    model = loaded("crnn", values, tmp_path)
    steps = np.random.default_rng(0).standard_normal((2, 18, 128)).astype(np.float32)
    expected = steps
    for layer in (0, 1):
        w, u, b, c = (values[f"layer5.{part}_l{layer}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        state, states = np.zeros((2, 32), np.float32), []
        for step in range(18):
            given, kept = expected[:, step] @ w.T + b, state @ u.T + c
            reset = scipy.special.expit(given[:, :32] + kept[:, :32])
            update = scipy.special.expit(given[:, 32:64] + kept[:, 32:64])
            new = np.tanh(given[:, 64:] + reset * kept[:, 64:])
            state = (1 - update) * new + update * state
            states.append(state)
        expected = np.stack(states, axis=1)
    np.testing.assert_allclose(answer(model, "steps", "gru_2", steps), expected[:, -1], atol=1e-6)


def torch_conv(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """PyTorch's Conv2d with half the kernel as padding; (batch, channels, rows, columns), term by term."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = ((size + 2 - 3) // stride + 1 for size in x.shape[2:])
    out = np.zeros((len(x), len(weight), rows, columns))
    for i in range(3):
        for j in range(3):
            piece = padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
            out += np.einsum("bchw,oc->bohw", piece[:, :, :rows, :columns], weight[:, :, i, j], optimize=True)
    return out + bias[:, np.newaxis, np.newaxis]


def torch_norm(x: Array, values: StateDict, name: str) -> Array:
    scale = values[f"{name}.weight"] / np.sqrt(values[f"{name}.running_var"] + 1e-5)
    shift = values[f"{name}.bias"] - values[f"{name}.running_mean"] * scale
    return x * scale[:, np.newaxis, np.newaxis] + shift[:, np.newaxis, np.newaxis]


def test_strided_residual_block_pads_on_both_sides_as_pytorch_does(tmp_path: Path) -> None:
    values = made_up("short_chunk_res", 7)
    model = loaded("short_chunk_res", values, tmp_path)
    x = np.random.default_rng(0).standard_normal((1, 1, 128, 231)).astype(np.float32)

    def step(x: Array, number: int, stride: int) -> Array:
        kernel, bias = values[f"layer1.conv_{number}.weight"], values[f"layer1.conv_{number}.bias"]
        return torch_norm(torch_conv(x, kernel, bias, stride), values, f"layer1.bn_{number}")

    expected = np.maximum(step(np.maximum(step(x, 1, 2), 0), 2, 1) + step(x, 3, 2), 0)
    given = answer(model, "input_batch_norm", "block_1_relu_2", np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(np.moveaxis(given, -1, 1), expected, atol=1e-4)


def test_first_layer_on_samples_begins_one_before_the_first(tmp_path: Path) -> None:
    values = made_up("sample_cnn", 7)
    model = loaded("sample_cnn", values, tmp_path)
    samples = np.random.default_rng(0).standard_normal((1, 59_049)).astype(np.float32)
    rows = np.concatenate([np.zeros(1), samples[0, :-1]]).reshape(19_683, 3)
    expected = rows @ values["layer1.conv.weight"][:, 0].T + values["layer1.conv.bias"]
    given = answer(model, "channel", "block_1_conv", samples[..., np.newaxis])
    np.testing.assert_allclose(given[0], expected, atol=1e-5)


def test_squeeze_and_excitation_weighs_channels_before_the_sum(tmp_path: Path) -> None:
    values = made_up("sample_cnn_se", 7)
    model = loaded("sample_cnn_se", values, tmp_path)
    x = np.random.default_rng(0).standard_normal((1, 19_683, 128)).astype(np.float32)
    mean = x.mean(axis=1)
    inner = np.maximum(mean @ values["layer2.dense1.weight"].T + values["layer2.dense1.bias"], 0)
    weights = scipy.special.expit(inner @ values["layer2.dense2.weight"].T + values["layer2.dense2.bias"])
    given = answer(model, "block_2_batch_norm_2", "block_2_scale", x)
    np.testing.assert_allclose(given, x * weights[:, np.newaxis], atol=1e-5)


def test_encoder_is_bert_s_without_positions(tmp_path: Path) -> None:
    values = made_up("self_attention", 7)
    model = loaded("self_attention", values, tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 119, 256)).astype(np.float32)

    def dense(x: Array, name: str) -> Array:
        return x @ values[f"encoder.layer.0.{name}.weight"].T + values[f"encoder.layer.0.{name}.bias"]

    def layer_norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * values[f"encoder.layer.0.{name}.weight"] + values[f"encoder.layer.0.{name}.bias"]

    query, key, value = (
        dense(x, f"attention.self.{part}").reshape(2, 119, 8, 32).transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    shares = scipy.special.softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(32), axis=-1)
    context = (shares @ value).transpose(0, 2, 1, 3).reshape(2, 119, 256)
    attended = layer_norm(dense(context, "attention.output.dense") + x, "attention.output.LayerNorm")
    inner = dense(attended, "intermediate.dense")
    inner = inner * 0.5 * (1 + scipy.special.erf(inner / np.sqrt(2)))
    expected = layer_norm(dense(inner, "output.dense") + attended, "output.LayerNorm")
    given = answer(model, "token", "encoder_1_dense_layer_norm", x)
    np.testing.assert_allclose(given, expected, atol=2e-5)


def test_token_before_the_steps_is_numpy_s_legacy_generator_s() -> None:
    model = find_network("self_attention").build()
    steps = np.ones((2, 118, 256), np.float32)
    given = answer(model, "steps", "token", steps)
    np.random.seed(0)
    expected = np.random.random((1, 256)).astype(np.float32)
    np.testing.assert_array_equal(given[:, 0], np.repeat(expected, 2, axis=0))
    np.testing.assert_array_equal(given[:, 1:], steps)
