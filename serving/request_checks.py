"""Checks inside the served graph, before any other operator sees a request.

TF Serving checks no shapes, and a tensor of another rank or length than a convolution was built for ends its process.
So each check is a control dependency of the value that goes on, and a refused request is answered INVALID_ARGUMENT
(HTTP 400).

What the graph optimiser can infer is not checked: a declared rank makes a check of the rank constant, and so does any
later operator that needs that rank (tf.ensure_shape and convolutions hand their shapes back to their inputs). Inputs
are therefore declared with unknown rank, and the checked value goes on through a reshape, which hands nothing back.
"""

from __future__ import annotations

from typing import Any, Final

import tensorflow as tf

from preprocessing.constants import CLIP_SAMPLES, CLIP_SECONDS, N_FRAMES, N_MELS, PCM_SCALE, SAMPLE_RATE
from serving.model_info import InputKind

WAVEFORM_SPEC: Final = tf.TensorSpec(None, tf.float32, name="waveform")
EXAMPLES_SPEC: Final = tf.TensorSpec(None, tf.string, name="examples")
INPUTS_SPEC: Final = tf.TensorSpec(None, tf.string, name="inputs")
PCM_SPEC: Final = tf.TensorSpec(None, tf.string, name="pcm")
WAV_SPEC: Final = tf.TensorSpec(None, tf.string, name="wav")

MOST_SECONDS: Final = 3600
MOST_CLIPS: Final = 128
"""In one request of ``pcm`` or ``wav``: two bytes cost the server as much as 29.1 s."""

WAVEFORM_BYTES: Final = 2 * CLIP_SAMPLES
LOG_MEL_BYTES: Final = 2 * N_MELS * N_FRAMES


def check_waveform(waveform: Any) -> Any:
    """Float32 of any shape -> the same, certainly [batch, 465600], finite and in [-1, 1]."""
    waveform = _require(
        waveform,
        tf.equal(tf.rank(waveform), 2),
        f"waveform: expected [clips, {CLIP_SAMPLES}], one row a clip, got shape {{}}",
        tf.shape(waveform),
    )
    waveform = _require_clips(waveform, "waveform")
    samples = tf.shape(waveform)[1]
    waveform = _require(
        waveform,
        tf.equal(samples, CLIP_SAMPLES),
        f"waveform: expected {CLIP_SAMPLES} samples a clip ({CLIP_SECONDS} s at {SAMPLE_RATE // 1000} kHz), got {{}}; "
        "pad a shorter clip with zeros, cut a longer one",
        samples,
    )
    waveform = _require_finite(tf.reshape(waveform, [-1, CLIP_SAMPLES]), "waveform")
    peak = tf.reduce_max(tf.abs(waveform))
    return _require(
        waveform,
        tf.less_equal(peak, 1.0),
        "waveform: expected values from -1 to 1, got one of size {}; divide int16 samples by 32768, clip overshoot",
        peak,
    )


def check_examples(examples: Any, name: str = "examples") -> Any:
    """Strings of any shape -> the same, certainly [batch]."""
    return _check_strings(examples, name, "serialised tf.Examples")


def check_pcm(pcm: Any) -> Any:
    """Strings of any shape -> the same, certainly [batch]; each int16 samples, from one to an hour of them."""
    pcm = _check_strings(pcm, "pcm", f"little-endian int16 samples at {SAMPLE_RATE} Hz, as bytes")
    pcm = _require_at_most(pcm, "pcm")
    lengths = tf.strings.length(pcm)
    odd = tf.boolean_mask(lengths, tf.logical_or(tf.equal(lengths, 0), tf.not_equal(lengths % 2, 0)))
    message = "pcm: expected two bytes a sample and at least one sample (little-endian int16), got {} bytes"
    pcm = _require(pcm, tf.equal(tf.size(odd), 0), message, odd)
    return _require_an_hour(pcm, lengths // 2, "pcm")


def check_wav(wav: Any) -> Any:
    """Strings of any shape, RIFF files -> their audio as check_pcm gives it: string [batch].

    16-bit PCM at 16 kHz alone; channels are averaged.
    """
    wav = _require_at_most(_check_strings(wav, "wav", "RIFF files (16-bit PCM), as bytes"), "wav")
    riff = tf.logical_and(_has(wav, 0, "RIFF"), _has(wav, 8, "WAVE"))
    others = tf.size(riff) - tf.reduce_sum(tf.cast(riff, tf.int32))
    message = "wav: expected RIFF files of type WAVE, got {} of another kind; send MP3 and others as pcm, decoded"
    wav = _require(wav, tf.equal(others, 0), message, others)
    pcm = tf.map_fn(_wav_to_pcm, wav, fn_output_signature=tf.TensorSpec([], tf.string), parallel_iterations=1)
    return _require_an_hour(pcm, tf.strings.length(pcm) // 2, "wav")


def _has(value: Any, position: int, word: str) -> Any:
    """Whether strings [clips], of any length, have a word of four bytes at a position: bool [clips]."""
    padded = tf.strings.join([value, tf.constant(bytes(16))])
    return tf.equal(tf.strings.substr(padded, position, len(word)), word)


def _wav_to_pcm(wav: Any) -> Any:
    audio, rate = tf.audio.decode_wav(wav)
    message = f"wav: expected a sample rate of {SAMPLE_RATE} Hz, got {{}}; resample the file first"
    audio = _require(audio, tf.equal(rate, SAMPLE_RATE), message, rate)
    frames = tf.shape(audio)[0]
    audio = _require(audio, tf.greater(frames, 0), "wav: expected at least one sample, got {}", frames)
    # Rounded as preprocessing rounds, so that encoding changes nothing; it is the one way from samples to bytes.
    mono = tf.round(tf.reduce_mean(audio, axis=1, keepdims=True) * PCM_SCALE) / PCM_SCALE
    riff = tf.audio.encode_wav(mono, SAMPLE_RATE)
    return tf.strings.substr(riff, tf.strings.length(riff) - 2 * frames, 2 * frames)


def pcm_to_waveform(pcm: Any) -> Any:
    """String [windows], each at most 465,600 int16 samples -> float32 [windows, 465600] in [-1, 1), zero-padded."""
    samples = tf.io.decode_raw(pcm, tf.int16, fixed_length=WAVEFORM_BYTES)
    return tf.cast(tf.reshape(samples, [-1, CLIP_SAMPLES]), tf.float32) / PCM_SCALE


def parse_inputs(examples: Any, kinds: set[InputKind]) -> dict[InputKind, Any]:
    """Read what the branches need, and nothing else, from serialised tf.Examples [batch].

    Returns:
        ``waveform`` float32 [batch, 465600] in [-1, 1), ``log_mel`` float32 [batch, 128, 592] in dB.
    """
    decode: dict[InputKind, Any] = {"waveform": _decode_waveform, "log_mel": _decode_log_mel}
    spec = {kind: tf.io.FixedLenFeature([], tf.string) for kind in sorted(kinds)}
    return {kind: decode[kind](value) for kind, value in tf.io.parse_example(examples, spec).items()}


def multi_hot_labels(examples: Any, tag_names: Any) -> Any:
    """Serialised tf.Examples [batch], tag names string [n_tags] -> float32 [batch, n_tags]; other tags are ignored."""
    tags = tf.io.parse_example(examples, {"tags": tf.io.RaggedFeature(tf.string)})["tags"].to_tensor("")
    return tf.cast(tf.reduce_any(tf.equal(tags[:, :, tf.newaxis], tag_names), axis=1), tf.float32)


def _check_strings(value: Any, name: str, what: str) -> Any:
    value = _require(
        value,
        tf.equal(tf.rank(value), 1),
        f"{name}: expected a list of {what}, one a clip, got shape {{}}",
        tf.shape(value),
    )
    return tf.reshape(_require_clips(value, name), [-1])


def _require_at_most(value: Any, name: str) -> Any:
    clips = tf.size(value)
    message = f"{name}: expected at most {MOST_CLIPS} clips in one request, got {{}}; send the others in another one"
    return _require(value, tf.less_equal(clips, MOST_CLIPS), message, clips)


def _require_an_hour(value: Any, samples: Any, name: str) -> Any:
    longest = tf.reduce_max(samples)
    message = (
        f"{name}: expected at most an hour ({MOST_SECONDS * SAMPLE_RATE} samples), got {{}}; send a longer one in parts"
    )
    return _require(value, tf.less_equal(longest, MOST_SECONDS * SAMPLE_RATE), message, longest)


def _decode_waveform(value: Any) -> Any:
    value = _require_length(value, WAVEFORM_BYTES, "waveform", f"{CLIP_SAMPLES} little-endian int16")
    pcm = tf.reshape(tf.io.decode_raw(value, tf.int16), [-1, CLIP_SAMPLES])
    return tf.cast(pcm, tf.float32) / PCM_SCALE


def _decode_log_mel(value: Any) -> Any:
    value = _require_length(value, LOG_MEL_BYTES, "log_mel", f"{N_MELS} x {N_FRAMES} little-endian float16")
    decibels = tf.reshape(tf.io.decode_raw(value, tf.float16), [-1, N_MELS, N_FRAMES])
    return _require_finite(tf.cast(decibels, tf.float32), "examples: feature log_mel")


def _require_length(value: Any, length: int, feature: str, content: str) -> Any:
    lengths = tf.strings.length(value)
    wrong = tf.boolean_mask(lengths, tf.not_equal(lengths, length))
    message = f"examples: feature {feature} must be {length} bytes ({content}), got {{}}"
    return _require(value, tf.equal(tf.size(wrong), 0), message, wrong)


def _require_clips(value: Any, name: str) -> Any:
    clips = tf.shape(value)[0]
    return _require(value, tf.greater(clips, 0), f"{name}: expected at least one clip, got {{}}", clips)


def _require_finite(value: Any, name: str) -> Any:
    unusable = tf.reduce_sum(tf.cast(tf.logical_not(tf.math.is_finite(value)), tf.int32))
    return _require(
        value, tf.equal(unusable, 0), f"{name}: expected finite values, got {{}} NaN or infinite ones", unusable
    )


def _require(value: Any, condition: Any, message: str, shown: Any) -> Any:
    """``value``, which nothing can read before ``condition`` held; ``message`` has one {} for ``shown``."""
    assertion = tf.debugging.Assert(condition, [tf.strings.format(message, shown)])
    with tf.control_dependencies([assertion]):
        return tf.identity(value)
