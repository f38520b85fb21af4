"""The signatures of the pushed SavedModel: docs/reference/pushed-model.md says what goes in and out.

Every one checks what it is given (serving.graph.request_checks) before any other operator sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import tensorflow as tf

from models.heads import ONE_OF
from preprocessing.clip_format import ClipFormat
from preprocessing.windows import least_rest
from serving.graph import request_checks
from serving.graph.ensemble import CLIPS_AT_ONCE, Ensemble, in_parts
from serving.graph.request_checks import Sound
from serving.graph.silence import mean_of_heard, split_heard, with_heard
from serving.graph.tensors import BoolTensor, Compute, FloatTensor, IntTensor, StringTensor, Tensor, Tensors
from serving.model_info import ModelInfo

Signature: TypeAlias = "Callable[..., Tensors]"

CLASSIFY: Final = "classify"
CLASSIFY_METHOD: Final = "tensorflow/serving/classify"
"""What TensorFlow Serving's Classify API looks for in a signature; the others are of its Predict API."""


def signatures(ensemble: Ensemble, info: ModelInfo) -> dict[str, tuple[Signature, tf.TensorSpec]]:
    """Return name -> (function, specification of its one input) of all signatures.

    Args:
        ensemble: the networks.
        info: the model's card, with the names and thresholds of their outputs.
    """
    names = tf.constant(list(info.tags))
    limits = tf.constant(list(info.thresholds), tf.float32)
    clip, at_once = ensemble.clip, ensemble.served_at_once

    def rows(value: Tensor, clips: IntTensor) -> Tensor:
        return tf.tile(value[tf.newaxis], [clips, 1])

    def answer(probabilities: FloatTensor, silent: BoolTensor) -> Tensors:
        clips = tf.shape(probabilities)[0]
        above = tf.logical_and(decide(ensemble, probabilities, limits), tf.logical_not(silent)[:, tf.newaxis])
        return {
            "predictions": probabilities,
            "tags": rows(names, clips),
            "thresholds": rows(limits, clips),
            "above_threshold": above,
            "no_tag": tf.logical_not(tf.reduce_any(above, axis=1)),
            "silent": silent,
        }

    def traced_once(compute: Compute) -> Compute:
        """One function in the graph that all signatures call: each would have the networks in it anew."""
        windows = tf.TensorSpec([None, clip.samples], tf.float32, name="windows")
        traced: Compute = tf.function(with_heard(compute, clip), [windows], autograph=False)
        return traced

    tags_of = traced_once(ensemble.from_waveform)
    vectors_of = traced_once(ensemble.embed)

    def of_examples(examples: StringTensor) -> tuple[FloatTensor, BoolTensor]:
        def of_some(some: Tensors) -> FloatTensor:
            return tags_of(request_checks.parse_waveform(some["examples"], clip))

        return split_heard(in_parts(of_some, {"examples": examples}, ensemble.n_tags + 1, at_once))

    def by_windows(sound: Sound, compute: Compute, width: int) -> tuple[FloatTensor, BoolTensor, IntTensor]:
        """Float32 [windows, width] of what ``compute`` makes of waveforms, which are silent, windows of each clip."""
        windows, counts = cut(sound, clip)
        # One string of all clips: what each window is copied from once.
        joined = tf.strings.reduce_join(sound.content)

        def of_some(some: Tensors) -> FloatTensor:
            pcm = request_checks.window_pcm(joined, **some)
            return compute(request_checks.pcm_to_waveform(pcm, clip))

        return *split_heard(in_parts(of_some, windows, width + 1, at_once)), counts

    def by_clip(value: Tensor, counts: IntTensor) -> Tensor:
        return tf.RaggedTensor.from_row_lengths(value, counts).to_tensor()

    def of_sound(sound: Sound) -> Tensors:
        by_window, silent, counts = by_windows(sound, tags_of, ensemble.n_tags)
        silent_windows = by_clip(silent, counts)
        all_silent = tf.equal(tf.reduce_sum(tf.cast(silent_windows, tf.int32), axis=1), counts)
        return {
            **answer(mean_of_heard(by_window, silent, counts), all_silent),
            "windows": counts,
            "window_predictions": by_clip(by_window, counts),
            "silent_windows": silent_windows,
        }

    def serving_default(examples: StringTensor) -> Tensors:
        return answer(*of_examples(request_checks.check_examples(examples, clip)))

    def waveform(waveform: FloatTensor) -> Tensors:
        checked = {"waveform": request_checks.check_waveform(waveform, clip)}
        probabilities = in_parts(lambda some: tags_of(some["waveform"]), checked, ensemble.n_tags + 1, at_once)
        return answer(*split_heard(probabilities))

    def pcm(pcm: StringTensor) -> Tensors:
        return of_sound(request_checks.check_pcm(pcm, clip))

    def wav(wav: StringTensor) -> Tensors:
        return of_sound(request_checks.check_wav(wav, clip))

    def embedding(pcm: StringTensor) -> Tensors:
        sound = request_checks.check_pcm(pcm, clip)
        by_window, silent, counts = by_windows(sound, vectors_of, ensemble.embedding_size)
        return {
            "embedding": mean_of_heard(by_window, silent, counts),
            "windows": counts,
            "silent_windows": by_clip(silent, counts),
            "tags": rows(names, tf.size(counts)),
        }

    def classify(inputs: StringTensor) -> Tensors:
        scores, _ = of_examples(request_checks.check_examples(inputs, clip, "inputs"))
        return {"classes": rows(names, tf.shape(scores)[0]), "scores": scores}

    def labels(examples: StringTensor) -> Tensors:
        checked = {"examples": request_checks.check_examples(examples, clip)}
        return {
            "labels": in_parts(
                lambda some: request_checks.multi_hot_labels(some["examples"], names),
                checked,
                ensemble.n_tags,
                CLIPS_AT_ONCE,
            )
        }

    def model_card(request: StringTensor) -> Tensors:
        checked = request_checks.check_requests(request)
        return {"model_card": tf.repeat(tf.constant(info.to_json()), tf.size(checked))}

    return {
        "serving_default": (serving_default, request_checks.EXAMPLES_SPEC),
        "waveform": (waveform, request_checks.WAVEFORM_SPEC),
        "pcm": (pcm, request_checks.PCM_SPEC),
        "wav": (wav, request_checks.WAV_SPEC),
        "embedding": (embedding, request_checks.PCM_SPEC),
        CLASSIFY: (classify, request_checks.INPUTS_SPEC),
        "labels": (labels, request_checks.EXAMPLES_SPEC),
        "model_card": (model_card, request_checks.REQUEST_SPEC),
    }


def decide(ensemble: Ensemble, probabilities: FloatTensor, thresholds: FloatTensor) -> BoolTensor:
    """Say which tags count as heard: models.heads.Heads.decide in the graph, bool [clips, n_tags]."""
    above = tf.greater_equal(probabilities, thresholds)
    if all(head.kind != ONE_OF for head in ensemble.heads.heads):
        return above
    parts = []
    for head, at in ensemble.heads.slices():
        largest = tf.one_hot(tf.argmax(probabilities[:, at], axis=1), head.size, on_value=True, off_value=False)
        parts.append(largest if head.kind == ONE_OF else above[:, at])
    return tf.concat(parts, axis=1)


def cut(sound: Sound, clip: ClipFormat) -> tuple[Tensors, IntTensor]:
    """Say where windows lie by the rule of preprocessing.windows.

    Returns:
        ``position``, ``length`` (in bytes of all clips joined) and ``channels`` of each window, int64 [windows], the
        clips' one after another; and how many each clip has, int32 [clips].
    """
    counts = tf.maximum((sound.frames + clip.samples - least_rest(clip)) // clip.samples, 1)
    song = tf.repeat(tf.range(tf.size(counts)), counts)
    number = tf.range(tf.size(song, tf.int64)) - tf.gather(tf.cumsum(counts, exclusive=True), song)
    frames, channels = tf.gather(sound.frames, song), tf.gather(sound.channels, song)
    first = tf.minimum(number * clip.samples, tf.maximum(frames - clip.samples, 0))
    sizes = tf.cast(tf.strings.length(sound.content), tf.int64)
    begins = tf.gather(tf.cumsum(sizes, exclusive=True) + sound.start, song)
    windows = {
        "position": begins + 2 * channels * first,
        "length": 2 * channels * tf.minimum(frames, clip.samples),
        "channels": channels,
    }
    return windows, tf.cast(counts, tf.int32)
