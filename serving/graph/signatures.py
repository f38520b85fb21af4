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
    served = _Served(ensemble, info)
    return {
        "serving_default": (served.serving_default, request_checks.EXAMPLES_SPEC),
        "waveform": (served.waveform, request_checks.WAVEFORM_SPEC),
        "pcm": (served.pcm, request_checks.PCM_SPEC),
        "wav": (served.wav, request_checks.WAV_SPEC),
        "embedding": (served.embedding, request_checks.PCM_SPEC),
        CLASSIFY: (served.classify, request_checks.INPUTS_SPEC),
        "labels": (served.labels, request_checks.EXAMPLES_SPEC),
        "model_card": (served.model_card, request_checks.REQUEST_SPEC),
    }


class _Served:
    """The signatures' functions, and what they share: constants, and the networks, which are in the graph once."""

    def __init__(self, ensemble: Ensemble, info: ModelInfo) -> None:
        self.ensemble, self.info, self.clip = ensemble, info, ensemble.clip
        self.names = tf.constant(list(info.tags))
        self.limits = tf.constant(list(info.thresholds), tf.float32)
        self.tags_of = self._traced_once(ensemble.from_waveform)
        self.vectors_of = self._traced_once(ensemble.embed)

    def serving_default(self, examples: StringTensor) -> Tensors:
        return self._answer(*self._of_examples(request_checks.check_examples(examples, self.clip)))

    def waveform(self, waveform: FloatTensor) -> Tensors:
        checked = {"waveform": request_checks.check_waveform(waveform, self.clip)}
        return self._answer(*self._in_parts(lambda some: self.tags_of(some["waveform"]), checked, self.ensemble.n_tags))

    def pcm(self, pcm: StringTensor) -> Tensors:
        return self._of_sound(request_checks.check_pcm(pcm, self.clip))

    def wav(self, wav: StringTensor) -> Tensors:
        return self._of_sound(request_checks.check_wav(wav, self.clip))

    def embedding(self, pcm: StringTensor) -> Tensors:
        sound = request_checks.check_pcm(pcm, self.clip)
        by_window, silent, counts = self._by_windows(sound, self.vectors_of, self.ensemble.embedding_size)
        return {
            "embedding": mean_of_heard(by_window, silent, counts),
            "windows": counts,
            "silent_windows": _by_clip(silent, counts),
            "tags": _rows(self.names, tf.size(counts)),
        }

    def classify(self, inputs: StringTensor) -> Tensors:
        scores, _ = self._of_examples(request_checks.check_examples(inputs, self.clip, "inputs"))
        return {"classes": _rows(self.names, tf.shape(scores)[0]), "scores": scores}

    def labels(self, examples: StringTensor) -> Tensors:
        checked = {"examples": request_checks.check_examples(examples, self.clip)}

        def of_some(some: Tensors) -> FloatTensor:
            return request_checks.multi_hot_labels(some["examples"], self.names)

        return {"labels": in_parts(of_some, checked, self.ensemble.n_tags, CLIPS_AT_ONCE)}

    def model_card(self, request: StringTensor) -> Tensors:
        checked = request_checks.check_requests(request)
        return {"model_card": tf.repeat(tf.constant(self.info.to_json()), tf.size(checked))}

    def _traced_once(self, compute: Compute) -> Compute:
        """One function in the graph that all signatures call: each would have the networks in it anew."""
        windows = tf.TensorSpec([None, self.clip.samples], tf.float32, name="windows")
        traced: Compute = tf.function(with_heard(compute, self.clip), [windows], autograph=False)
        return traced

    def _in_parts(
        self, compute: Callable[[Tensors], FloatTensor], checked: Tensors, width: int
    ) -> tuple[FloatTensor, BoolTensor]:
        """Float32 [rows, width] of what ``compute`` makes of some rows at a time, and which are silent."""
        return split_heard(in_parts(compute, checked, width + 1, self.ensemble.served_at_once))

    def _of_examples(self, examples: StringTensor) -> tuple[FloatTensor, BoolTensor]:
        def of_some(some: Tensors) -> FloatTensor:
            return self.tags_of(request_checks.parse_waveform(some["examples"], self.clip))

        return self._in_parts(of_some, {"examples": examples}, self.ensemble.n_tags)

    def _by_windows(self, sound: Sound, compute: Compute, width: int) -> tuple[FloatTensor, BoolTensor, IntTensor]:
        """Float32 [windows, width] of what ``compute`` makes of waveforms, which are silent, windows of each clip."""
        windows, counts = cut(sound, self.clip)
        # One string of all clips: what each window is copied from once.
        joined = tf.strings.reduce_join(sound.content)

        def of_some(some: Tensors) -> FloatTensor:
            pcm = request_checks.window_pcm(joined, **some)
            return compute(request_checks.pcm_to_waveform(pcm, self.clip))

        return *self._in_parts(of_some, windows, width), counts

    def _of_sound(self, sound: Sound) -> Tensors:
        by_window, silent, counts = self._by_windows(sound, self.tags_of, self.ensemble.n_tags)
        silent_windows = _by_clip(silent, counts)
        all_silent = tf.equal(tf.reduce_sum(tf.cast(silent_windows, tf.int32), axis=1), counts)
        return {
            **self._answer(mean_of_heard(by_window, silent, counts), all_silent),
            "windows": counts,
            "window_predictions": _by_clip(by_window, counts),
            "silent_windows": silent_windows,
        }

    def _answer(self, probabilities: FloatTensor, silent: BoolTensor) -> Tensors:
        clips = tf.shape(probabilities)[0]
        decided = decide(self.ensemble, probabilities, self.limits)
        above = tf.logical_and(decided, tf.logical_not(silent)[:, tf.newaxis])
        return {
            "predictions": probabilities,
            "tags": _rows(self.names, clips),
            "thresholds": _rows(self.limits, clips),
            "above_threshold": above,
            "no_tag": tf.logical_not(tf.reduce_any(above, axis=1)),
            "silent": silent,
        }


def _rows(value: Tensor, clips: IntTensor) -> Tensor:
    return tf.tile(value[tf.newaxis], [clips, 1])


def _by_clip(value: Tensor, counts: IntTensor) -> Tensor:
    return tf.RaggedTensor.from_row_lengths(value, counts).to_tensor()


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
