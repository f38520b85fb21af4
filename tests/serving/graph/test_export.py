from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_model import (
    DATA,
    LOG_MEL_NORMALISATION,
    SCORES,
    TAGS,
    THRESHOLDS,
    WAVEFORM_NORMALISATION,
    Exported,
    export,
    stored_example,
    untrained_ensemble,
)
from hostile_requests import entry, example, part

from models.combiner import SMALLEST, build_combiner
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from models.registry import Network, find_network
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS
from preprocessing.examples import encode_example
from preprocessing.features import log_mel
from serving.graph.ensemble import Ensemble, Member
from serving.graph.export import export_ensemble
from serving.model_info import Normalisation, read_model_info


def by_examples(loaded: Any, examples: list[bytes]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return loaded.signatures["serving_default"](examples=tf.constant(examples))["predictions"].numpy()


def by_waveform(loaded: Any, waveform: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return loaded.signatures["waveform"](waveform=tf.constant(waveform, tf.float32))["predictions"].numpy()


def test_signatures_are_named_and_typed_as_promised(loaded: Any) -> None:
    answer = {
        "predictions": tf.float32,
        "tags": tf.string,
        "thresholds": tf.float32,
        "above_threshold": tf.bool,
        "no_tag": tf.bool,
        "silent": tf.bool,
    }
    by_window = answer | {"windows": tf.int32, "window_predictions": tf.float32, "silent_windows": tf.bool}
    expected = {
        "serving_default": answer,
        "waveform": answer,
        "pcm": by_window,
        "wav": by_window,
        "embedding": {"embedding": tf.float32, "windows": tf.int32, "silent_windows": tf.bool, "tags": tf.string},
        "classify": {"classes": tf.string, "scores": tf.float32},
        "labels": {"labels": tf.float32},
        "model_card": {"model_card": tf.string},
    }
    outputs = {name: function.structured_outputs for name, function in loaded.signatures.items()}
    assert {name: {key: spec.dtype for key, spec in spec.items()} for name, spec in outputs.items()} == expected


def test_stored_features_and_waveform_give_the_same_probabilities(loaded: Any, clips: Any) -> None:
    examples = [stored_example(clip) for clip in clips]
    np.testing.assert_allclose(by_examples(loaded, examples), by_waveform(loaded, clips), atol=1e-3)


def test_graph_equals_branches_and_combiner_called_by_hand(loaded: Any, exported: Exported, clips: Any) -> None:
    mel = (np.stack([log_mel(clip) for clip in clips]) - LOG_MEL_NORMALISATION.mean) / LOG_MEL_NORMALISATION.std
    wave = (clips - WAVEFORM_NORMALISATION.mean) / WAVEFORM_NORMALISATION.std
    outputs = [
        np.asarray(member.model(wave if name == "waveform_1d" else mel, training=False))
        for name, member in exported.members.items()
    ]
    by_hand = np.asarray(exported.combiner(np.concatenate(outputs, axis=-1), training=False))
    answer = by_waveform(loaded, clips)
    np.testing.assert_allclose(answer, by_hand, atol=1e-3)
    assert answer.std(axis=0).max() > 0.05, "the two clips must be told apart for this to mean anything"


def test_tags_are_given_with_each_row_in_the_models_order(loaded: Any, clips: Any) -> None:
    tags = loaded.signatures["waveform"](waveform=tf.constant(clips))["tags"].numpy()
    assert [[tag.decode() for tag in row] for row in tags] == [list(TAGS)] * 2


def test_labels_are_multi_hot_in_the_models_order_and_unknown_tags_ignored(loaded: Any) -> None:
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    examples = [stored_example(clip, tags) for tags in (("männer", "guitar"), (), ("theremin",), ("theremin", "fast"))]
    labels = loaded.signatures["labels"](examples=tf.constant(examples))["labels"].numpy()
    assert labels.dtype == np.float32
    assert labels.tolist() == [[1, 0, 0, 0, 0, 1], [0] * 6, [0] * 6, [0, 0, 0, 0, 1, 0]]


def test_labels_of_examples_without_any_tags_are_zero(loaded: Any) -> None:
    labels = loaded.signatures["labels"](examples=tf.constant([stored_example(np.zeros(1, np.float32), tags=())]))
    assert labels["labels"].numpy().tolist() == [[0] * 6]


def test_tag_names_lie_beside_the_model(exported: Exported) -> None:
    assert (exported.path / "assets" / "tags.txt").read_text("utf-8").splitlines() == list(TAGS)
    info = read_model_info(exported.path)
    assert info.tags == TAGS
    assert [(member.network, member.normalisation) for member in info.members] == [
        ("mel_1d", LOG_MEL_NORMALISATION),
        ("mel_2d", LOG_MEL_NORMALISATION),
        ("waveform_1d", WAVEFORM_NORMALISATION),
    ]
    assert json.loads((exported.path / "model.json").read_text("utf-8"))["parameters"] == info.parameters > 3_700_000
    assert not list(exported.path.rglob("*.part"))


@pytest.mark.parametrize("log_mel", [None, b"", b"damaged", np.full((N_MELS, N_FRAMES), 500, "<f2").tobytes()])
def test_examples_are_answered_by_their_waveform_whatever_log_mel_they_carry(
    loaded: Any, clips: Any, log_mel: bytes | None
) -> None:
    examples = [stored_example(clip, log_mel=log_mel) for clip in clips]
    np.testing.assert_allclose(by_examples(loaded, examples), by_waveform(loaded, clips), atol=1e-6)


def test_one_network_needs_no_combiner(tmp_path: Path, clips: Any) -> None:
    ensemble = untrained_ensemble(("mel_1d",), Heads.of_tags(len(TAGS)))
    export_ensemble(tmp_path / "m", ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(by_waveform(loaded, clips), ensemble.from_waveform(clips), atol=1e-5)
    assert read_model_info(tmp_path / "m").combiner is None


def wrong_waveforms() -> dict[str, tuple[Any, str]]:
    def changed(value: float) -> Any:
        clip = np.zeros((2, CLIP_SAMPLES), np.float32)
        clip[1, 1000] = value
        return clip

    rank, length = r"expected \[clips, 465600\]", r"expected 465600 samples a clip \(29.1 s at 16000 Hz\), got "
    return {
        "scalar": (np.float32(0), rank),
        "rank 1": (np.zeros(CLIP_SAMPLES, np.float32), rank),
        "rank 3": (np.zeros((1, CLIP_SAMPLES, 1), np.float32), rank),
        "one sample": (np.ones((1, 1), np.float32), length + "1"),
        "no clips": (np.zeros((0, CLIP_SAMPLES), np.float32), "expected at least one clip"),
        "no samples": (np.zeros((1, 0), np.float32), length + "0"),
        "one short": (np.zeros((1, CLIP_SAMPLES - 1), np.float32), length + "465599"),
        "one more": (np.zeros((1, CLIP_SAMPLES + 1), np.float32), length + "465601"),
        "NaN": (changed(np.nan), "got 1 NaN or infinite"),
        "infinity": (changed(np.inf), "got 1 NaN or infinite"),
        "too loud": (changed(-1.01), "expected values from -1 to 1, got one of size 1.01"),
        "int16 range": (changed(20000), "divide int16 samples by 32768"),
    }


@pytest.mark.parametrize("case", list(wrong_waveforms()))
def test_wrong_waveform_is_refused_with_words_that_help(loaded: Any, case: str) -> None:
    waveform, words = wrong_waveforms()[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        by_waveform(loaded, waveform)


def example_of(waveform_feature: bytes) -> bytes:
    return example(entry(b"waveform", waveform_feature))


def wrong_examples() -> dict[str, tuple[Any, str]]:
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    good = stored_example(clip)
    rank = "expected a list of serialised tf.Examples"
    return {
        "rank 0": (good, rank),
        "rank 2": ([[good]], rank),
        "no clips": (np.zeros(0, "S1"), "expected at least one clip"),
        "garbage": ([b"not an example"], "expected serialised tf.Examples, got 1 that are cut or something else"),
        "empty string": ([b""], "feature waveform: expected one value of bytes"),
        "no waveform": (
            [stored_example(clip, waveform=None)],
            "feature waveform: expected one value.*missing.* in 1 of them",
        ),
        "short waveform": ([good, stored_example(clip, waveform=b"1234")], r"waveform must be 931200 bytes.*got \[4\]"),
        "odd waveform": ([stored_example(clip, waveform=b"123")], r"waveform must be 931200 bytes.*got \[3\]"),
        "cut inside": ([example(part(1, b"abc", 100))], "lengths inside that do not fit"),
        "a value of 2 GB": ([example_of(part(1, part(1, b"abc", 2**31)))], "feature waveform: expected one value"),
        "two values": ([stored_example(clip, waveform=[b"a", b"b"])], "feature waveform: .*not one value in 1 of them"),
        "300 features": ([encode_example({str(n): 1.0 for n in range(300)})], "at most 256 features, got 257 or more"),
        "3 MB": ([stored_example(clip, more=bytes(3_000_000))], "at most 2165504 bytes an example"),
        "waveform as float list": (
            [stored_example(clip, waveform=1.0)],
            "feature waveform: expected one value of bytes.*of another type",
        ),
    }


@pytest.mark.parametrize("case", list(wrong_examples()))
def test_wrong_examples_are_refused_with_words_that_help(loaded: Any, case: str) -> None:
    examples, words = wrong_examples()[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        by_examples(loaded, examples)


def test_model_answers_after_bad_requests(loaded: Any, clips: Any) -> None:
    before = by_waveform(loaded, clips)
    for waveform, _ in wrong_waveforms().values():
        with pytest.raises(tf.errors.InvalidArgumentError):
            by_waveform(loaded, waveform)
    np.testing.assert_array_equal(by_waveform(loaded, clips), before)


SURVIVAL = """
import re
import sys
import numpy as np
import tensorflow as tf

with tf.compat.v1.Session() as session:
    bundle = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = bundle.signature_def["waveform"]
    feed, fetch = signature.inputs["waveform"].name, signature.outputs["predictions"].name
    for shape in [(), (1,), (465600,), (1, 1), (1, 465599), (1, 465600, 1), (1, 1, 1, 1), (0, 465600)]:
        try:
            session.run(fetch, {feed: np.zeros(shape, np.float32)})
            print("answered", shape)
        except tf.errors.InvalidArgumentError as error:
            print(re.search("assertion failed: .waveform: expected (\\w+|.clips)", error.message).group(1))
    print(session.run(fetch, {feed: np.zeros((1, 465600), np.float32)}).shape)
"""


def test_wrong_shapes_do_not_end_a_process_that_runs_the_graph_as_a_server_does(exported: Exported) -> None:
    environment = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", SURVIVAL, str(exported.path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rank, length, clips = "[clips", "465600", "at"
    assert done.stdout.splitlines() == [rank, rank, rank, length, length, rank, rank, clips, "(1, 6)"]


def test_parts_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    small = keras.Sequential([keras.Input((N_MELS, N_FRAMES)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network, heads = find_network("mel_1d"), Heads.of_tags(2)
    member = Member("a", network, small, network.score_windows)
    with pytest.raises(ValueError, match="2 networks need a combiner"):
        Ensemble([member, member], None, heads)
    with pytest.raises(ValueError, match="combiner takes 6 values"):
        Ensemble([member], build_combiner("dense", 3, heads), heads)
    with pytest.raises(ValueError, match=r"heads have 3 outputs and the networks give \[2\]"):
        Ensemble([member], None, Heads.of_tags(3))
    ensemble = Ensemble([member], None, heads)
    for tags, thresholds, words in (
        ("xyz", (0.5,) * 3, "give 2 tags, and there are 3"),
        ("xx", (0.5,) * 2, "differ"),
        ("xy", (0.5,), "a threshold from 0 to 1 for each of 2 tags"),
        ("xy", (0.5, float("nan")), "a threshold from 0 to 1"),
        ("xy", (0.5, 1.5), "a threshold from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            export_ensemble(tmp_path / "m", ensemble, tags, thresholds, DATA, SCORES)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_normalisation_refuses_a_deviation_that_cannot_divide(std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        Normalisation(0.0, std)


def test_waveform_branch_alone_reads_no_mel(tmp_path: Path, clips: Any) -> None:
    exported = export(tmp_path / "m", ("waveform_1d",))
    loaded = tf.saved_model.load(str(exported.path))
    by_pcm = by_examples(loaded, [stored_example(clip, log_mel=None) for clip in clips])
    np.testing.assert_allclose(by_pcm, by_waveform(loaded, clips), atol=1e-5)
    assert by_pcm.std(axis=0).max() > 1e-3


SHORT = ClipFormat(sample_rate=8000, samples=40_000)


def small_network(window: int, rate: int, outputs: int) -> tuple[Network, keras.Model]:
    """A network on a window of the waveform that answers with what it hears, so that windows can be told apart."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Reshape((window, 1)), keras.layers.Conv1D(8, 64, strides=64, activation="relu")]
    layers += [keras.layers.GlobalMaxPool1D(), keras.layers.Dense(outputs, name="logits")]
    network = Network("toy", "a toy", "none", "nowhere:build", 0, window_samples=window, sample_rate=rate)
    return network, keras.Sequential([keras.Input((window,)), *layers])


def test_network_that_hears_less_than_a_clip_answers_with_the_mean_over_its_windows() -> None:
    from models.outputs import with_heads

    heads = Heads.of_tags(3)
    network, logits = small_network(8000, 8000, heads.size)
    model = with_heads(keras.Model(logits.inputs[0], logits.outputs[0]), heads)
    ensemble = Ensemble([Member("toy", network, model, network.score_windows)], None, heads, SHORT)
    clips = np.random.default_rng(0).uniform(-1, 1, (2, SHORT.samples)).astype("f4")
    starts = network.score_windows.starts(SHORT.samples, 8000)
    assert len(starts) == 16
    by_hand = np.mean([np.asarray(model(clips[:, start : start + 8000])) for start in starts], axis=0)
    np.testing.assert_allclose(ensemble.from_waveform(clips), by_hand, atol=1e-5)
    assert ensemble.embed(clips).shape == (2, 8)


def test_clip_format_and_heads_stand_in_the_card_and_in_the_graph(tmp_path: Path) -> None:
    from models.outputs import with_heads

    heads = Heads((Head("genre", ONE_OF, 2), Head("tags", MULTI_LABEL, 2)))
    network, logits = small_network(20_000, 8000, heads.size)
    model = with_heads(keras.Model(logits.inputs[0], logits.outputs[0]), heads)
    ensemble = Ensemble([Member("toy", network, model, network.score_windows)], None, heads, SHORT)
    export_ensemble(tmp_path / "m", ensemble, ("rock", "jazz", "loud", "fast"), (0.9, 0.9, 0.0, 1.0), DATA, SCORES)
    info = read_model_info(tmp_path / "m")
    assert (info.clip, info.heads) == (SHORT, heads)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 40000 samples a clip .5 s at 8000 Hz., got 9"):
        by_waveform(loaded, np.zeros((1, 9), np.float32))
    clips = np.random.default_rng(0).uniform(-1, 1, (3, SHORT.samples)).astype("f4")
    answer = {name: value.numpy() for name, value in loaded.signatures["waveform"](waveform=tf.constant(clips)).items()}
    np.testing.assert_allclose(answer["predictions"][:, :2].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(answer["above_threshold"], heads.decide(answer["predictions"], info.thresholds))
    assert answer["above_threshold"][:, :2].sum(axis=1).tolist() == [1, 1, 1]
    assert answer["above_threshold"][:, 2:].tolist() == [[True, False]] * 3


@pytest.mark.parametrize("combiner", ["logistic", "mean"])
def test_other_combiners_are_exported_and_restored(tmp_path: Path, clips: Any, combiner: str) -> None:
    ensemble = untrained_ensemble(("mel_1d", "musicnn"), Heads.of_tags(len(TAGS)), combiner=combiner)
    export_ensemble(tmp_path / "m", ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    answer = by_waveform(tf.saved_model.load(str(tmp_path / "m")), clips)
    np.testing.assert_allclose(Ensemble.restore(tmp_path / "m").from_waveform(clips), answer, atol=1e-5)
    answers = [np.asarray(one) for one in ensemble.member_answers(ensemble.features(clips))]
    if combiner == "mean":
        np.testing.assert_allclose(answer, np.mean(answers, axis=0), atol=1e-5)
    else:  # untrained, it takes the mean of the log-odds
        kept = [np.clip(one, SMALLEST, 1 - SMALLEST) for one in answers]
        logits = np.mean([np.log(one / (1 - one)) for one in kept], axis=0)
        np.testing.assert_allclose(answer, 1 / (1 + np.exp(-logits)), atol=1e-4)
