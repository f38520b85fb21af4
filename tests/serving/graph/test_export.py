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
from exported_model import DATA, NORMALISATION, SCORES, TAGS, THRESHOLDS, Exported, export, stored_example
from hostile_requests import entry, example, part

from models.branches import BRANCHES
from models.combiner import build_combiner
from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS
from preprocessing.examples import encode_example
from preprocessing.features import log_mel
from serving.graph.ensemble import Ensemble
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
    }
    by_window = answer | {"windows": tf.int32, "window_predictions": tf.float32}
    expected = {
        "serving_default": answer,
        "waveform": answer,
        "pcm": by_window,
        "wav": by_window,
        "embedding": {"embedding": tf.float32, "windows": tf.int32, "tags": tf.string},
        "classify": {"classes": tf.string, "scores": tf.float32},
        "labels": {"labels": tf.float32},
    }
    outputs = {name: function.structured_outputs for name, function in loaded.signatures.items()}
    assert {name: {key: spec.dtype for key, spec in spec.items()} for name, spec in outputs.items()} == expected


def test_stored_features_and_waveform_give_the_same_probabilities(loaded: Any, clips: Any) -> None:
    examples = [stored_example(clip) for clip in clips]
    np.testing.assert_allclose(by_examples(loaded, examples), by_waveform(loaded, clips), atol=1e-3)


def test_graph_equals_branches_and_combiner_called_by_hand(loaded: Any, exported: Exported, clips: Any) -> None:
    mel = (np.stack([log_mel(clip) for clip in clips]) - NORMALISATION.log_mel_mean) / NORMALISATION.log_mel_std
    wave = (clips - NORMALISATION.waveform_mean) / NORMALISATION.waveform_std
    inputs = {"log_mel": mel, "waveform": wave}
    outputs = [
        np.asarray(network(inputs[BRANCHES[name].input], training=False)) for name, network in exported.branches.items()
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
    assert info.normalisation == NORMALISATION
    assert [(branch.name, branch.input) for branch in info.branches] == [
        ("mel_1d", "log_mel"),
        ("mel_2d", "log_mel"),
        ("waveform_1d", "waveform"),
    ]
    assert json.loads((exported.path / "model.json").read_text("utf-8"))["parameters"] == info.parameters > 3_700_000
    assert not list(exported.path.rglob("*.part"))


def test_one_mel_branch_needs_no_waveform_and_no_combiner(tmp_path: Path, clips: Any) -> None:
    branch = BRANCHES["mel_1d"].build(len(TAGS))
    ensemble = Ensemble.build({"mel_1d": branch}, None, {"mel_1d": "log_mel"}, NORMALISATION)
    export_ensemble(tmp_path / "m", ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    by_mel = by_examples(loaded, [stored_example(clip, waveform=None) for clip in clips])
    np.testing.assert_allclose(by_mel, by_waveform(loaded, clips), atol=1e-3)


def wrong_waveforms() -> dict[str, tuple[Any, str]]:
    def changed(value: float) -> Any:
        clip = np.zeros((2, CLIP_SAMPLES), np.float32)
        clip[1, 1000] = value
        return clip

    rank, length = r"expected \[clips, 465600\]", r"expected 465600 samples a clip \(29.1 s at 16 kHz\), got "
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


def example_of(log_mel_feature: bytes) -> bytes:
    return example(entry(b"log_mel", log_mel_feature))


def wrong_examples() -> dict[str, tuple[Any, str]]:
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    good = stored_example(clip)
    loud = np.full((N_MELS, N_FRAMES), 500, "<f2").tobytes()
    nan = np.full((N_MELS, N_FRAMES), np.nan, "<f2").tobytes()
    rank = "expected a list of serialised tf.Examples"
    return {
        "rank 0": (good, rank),
        "rank 2": ([[good]], rank),
        "no clips": (np.zeros(0, "S1"), "expected at least one clip"),
        "garbage": ([b"not an example"], "expected serialised tf.Examples, got 1 that are cut or something else"),
        "empty string": ([b""], "feature log_mel: expected one value of bytes"),
        "no log_mel": (
            [good, stored_example(clip, log_mel=None)],
            "feature log_mel: expected one value.*missing.* in 1 of them",
        ),
        "no waveform": (
            [stored_example(clip, waveform=None)],
            "feature waveform: expected one value.*missing.* in 1 of them",
        ),
        "short waveform": ([good, stored_example(clip, waveform=b"1234")], r"waveform must be 931200 bytes.*got \[4\]"),
        "odd waveform": ([stored_example(clip, waveform=b"123")], r"waveform must be 931200 bytes.*got \[3\]"),
        "short log_mel": ([stored_example(clip, log_mel=b"")], r"log_mel must be 151552 bytes.*got \[0\]"),
        "NaN log_mel": ([stored_example(clip, log_mel=nan)], "log_mel: expected finite values, got 75776 NaN"),
        "cut inside": ([example(part(1, b"abc", 100))], "lengths inside that do not fit"),
        "a value of 2 GB": ([example_of(part(1, part(1, b"abc", 2**31)))], "feature log_mel: expected one value"),
        "two values": ([stored_example(clip, log_mel=[b"a", b"b"])], "feature log_mel: .*not one value in 1 of them"),
        "300 features": ([encode_example({str(n): 1.0 for n in range(300)})], "at most 256 features, got 257 or more"),
        "3 MB": ([stored_example(clip, more=bytes(3_000_000))], "at most 2165504 bytes an example"),
        "log_mel in other units": ([stored_example(clip, log_mel=loud)], r"decibels from -100 to 60.*\[500 500\]"),
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
    branch = keras.Sequential([keras.Input((N_MELS, N_FRAMES)), keras.layers.Flatten(), keras.layers.Dense(2)])
    kinds: dict[str, Any] = {"a": "log_mel", "b": "log_mel"}
    with pytest.raises(ValueError, match="2 branches need a combiner"):
        Ensemble.build({"a": branch, "b": branch}, None, kinds, NORMALISATION)
    with pytest.raises(ValueError, match="combiner takes 6 values"):
        Ensemble.build({"a": branch}, build_combiner(3, 2), kinds, NORMALISATION)
    ensemble = Ensemble.build({"a": branch}, None, kinds, NORMALISATION)
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
    with pytest.raises(ValueError, match="waveform_std"):
        Normalisation(0.0, 1.0, 0.0, std)


def test_waveform_branch_alone_reads_no_mel(tmp_path: Path, clips: Any) -> None:
    exported = export(tmp_path / "m", ("waveform_1d",))
    loaded = tf.saved_model.load(str(exported.path))
    by_pcm = by_examples(loaded, [stored_example(clip, log_mel=None) for clip in clips])
    np.testing.assert_allclose(by_pcm, by_waveform(loaded, clips), atol=1e-5)
    assert by_pcm.std(axis=0).max() > 1e-3
