"""Checks inside the served graph, before any other operator sees a request.

TF Serving checks no shapes, and a tensor of another rank or length than a convolution was built for ends its process.
So each check is a control dependency of the value that goes on, and a refused request is answered INVALID_ARGUMENT
(HTTP 400).

What the graph optimiser can infer is not checked: a declared rank makes a check of the rank constant, and so does any
later operator that needs that rank (tf.ensure_shape and convolutions hand their shapes back to their inputs). Inputs
are therefore declared with unknown rank, and the checked value goes on through a reshape, which hands nothing back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import tensorflow as tf

from preprocessing.clip_format import ClipFormat
from preprocessing.constants import HOP_LENGTH, N_MELS, PCM_SCALE
from serving.client.requests import MOST_CLIPS
from serving.graph import example_parser, wav_chunks
from serving.graph.content_checks import content_check
from serving.graph.ensemble import in_parts
from serving.graph.example_parser import Span
from serving.graph.tensors import BoolTensor, FloatTensor, IntTensor, StringTensor, Tensor

WAVEFORM: Final = "waveform"

WAVEFORM_SPEC: Final = tf.TensorSpec(None, tf.float32, name="waveform")
EXAMPLES_SPEC: Final = tf.TensorSpec(None, tf.string, name="examples")
INPUTS_SPEC: Final = tf.TensorSpec(None, tf.string, name="inputs")
PCM_SPEC: Final = tf.TensorSpec(None, tf.string, name="pcm")
REQUEST_SPEC: Final = tf.TensorSpec(None, tf.string, name="request")
WAV_SPEC: Final = tf.TensorSpec(None, tf.string, name="wav")

MOST_SECONDS: Final = 3600
FURTHER_BYTES: Final = 65_536
"""Of a WAV file besides its samples, where the bytes of a request are bounded."""

MOST_TAGS: Final = 1024
"""Of one example in ``labels``: each is looked at by itself, and an empty one takes two bytes of a request."""

DAMAGED: Final = "examples: expected serialised tf.Examples, got {} with lengths inside that do not fit each other"

PCM_FORMAT: Final = 1


def most_example_bytes(clip: ClipFormat) -> int:
    """Twice what preprocessing stores of a clip."""
    return 2 * (clip.waveform_bytes + 2 * N_MELS * (1 + clip.samples // HOP_LENGTH))


def most_wav_bytes(clip: ClipFormat) -> int:
    """About an hour in stereo."""
    return 2 * clip.waveform_bytes * math.ceil(MOST_SECONDS / clip.seconds)


def most_samples(clip: ClipFormat) -> int:
    """Of all clips of one request together: an hour of one, or as many clips as there may be."""
    return max(MOST_SECONDS * clip.sample_rate, MOST_CLIPS * clip.samples)


def check_waveform(waveform: FloatTensor, clip: ClipFormat) -> FloatTensor:
    """Float32 of any shape -> the same, certainly [batch, clip samples], finite and in [-1, 1]."""
    waveform = _require(
        waveform,
        tf.equal(tf.rank(waveform), 2),
        f"waveform: expected [clips, {clip.samples}], one row a clip, got shape {{}}",
        tf.shape(waveform),
    )
    waveform = _require_clips(waveform, "waveform")
    samples = tf.shape(waveform)[1]
    waveform = _require(
        waveform,
        tf.equal(samples, clip.samples),
        f"waveform: expected {clip.samples} samples a clip ({clip.seconds:g} s at {clip.sample_rate} Hz), got {{}}; "
        "repeat a shorter clip, cut a longer one",
        samples,
    )
    waveform = tf.reshape(waveform, [-1, clip.samples])
    by_clip = in_parts(lambda some: _unusable_and_peak(some["waveform"]), {"waveform": waveform}, 2)
    waveform = _require_none_unusable(waveform, tf.cast(tf.reduce_sum(by_clip[:, 0]), tf.int32), "waveform")
    peak = tf.reduce_max(by_clip[:, 1])
    return _require(
        waveform,
        tf.less_equal(peak, 1.0),
        "waveform: expected values from -1 to 1, got one of size {}; divide int16 samples by 32768, clip overshoot",
        peak,
    )


def check_examples(examples: StringTensor, clip: ClipFormat, name: str = "examples") -> StringTensor:
    """Strings of any shape -> the same, certainly [batch], each of bounded size and as long as its first field says."""
    examples = _check_strings(examples, name, "serialised tf.Examples")
    longest, most = tf.reduce_max(tf.strings.length(examples)), most_example_bytes(clip)
    message = (
        f"{name}: expected at most {most} bytes an example, got {{}}; leave out other features than waveform and tags"
    )
    examples = _require(examples, tf.less_equal(longest, most), message, longest)
    _, whole = example_parser.features_of(examples)
    message = f"{name}: expected serialised tf.Examples, got {{}} that are cut or something else (JSON? audio? base64?)"
    return _require_of_all(examples, whole, message)


def check_requests(requests: StringTensor) -> StringTensor:
    """Strings of any shape -> the same, certainly [requests], as many as there may be clips."""
    return _check_strings(requests, "request", "texts (what they say does not matter)")


@dataclass(frozen=True)
class Sound:
    """Where the samples of each clip lie.

    Attributes:
        content: string [clips], whole files or samples alone.
        start: of the samples in it, int64 [clips], in bytes.
        channels: int64 [clips], side by side in a frame.
        frames: int64 [clips], one at least.
    """

    content: StringTensor
    start: IntTensor
    channels: IntTensor
    frames: IntTensor


def check_pcm(pcm: StringTensor, clip: ClipFormat) -> Sound:
    """Strings of any shape -> sound of at most an hour a clip; each certainly int16 samples, and no file or text."""
    pcm = _check_strings(pcm, "pcm", f"little-endian int16 samples at {clip.sample_rate} Hz, as bytes")
    pcm = _require_samples_alone(pcm, clip)
    lengths = tf.cast(tf.strings.length(pcm), tf.int64)
    odd = tf.boolean_mask(lengths, tf.logical_or(tf.equal(lengths, 0), tf.not_equal(lengths % 2, 0)))
    message = "pcm: expected two bytes a sample and at least one sample (little-endian int16), got {} bytes"
    pcm = _require(pcm, tf.equal(tf.size(odd), 0), message, odd)
    pcm = _require_an_hour(pcm, lengths // 2, clip, "pcm")
    return Sound(pcm, tf.zeros_like(lengths), tf.ones_like(lengths), lengths // 2)


def check_wav(wav: StringTensor, clip: ClipFormat) -> Sound:
    """Strings of any shape, RIFF files -> their sound.

    16-bit PCM at the clip's sample rate alone; what else is taken and refused stands in serving.graph.wav_chunks.
    """
    wav = _check_strings(wav, "wav", "RIFF files (16-bit PCM), as bytes")
    wav = _require_riff(wav, clip)
    sizes = tf.cast(tf.strings.length(wav), tf.int64)
    longest, most = tf.reduce_max(sizes), most_wav_bytes(clip)
    message = f"wav: expected at most {most} bytes a file, got {{}}; send a longer one in parts, or as pcm"
    wav = _require(wav, tf.less_equal(longest, most), message, longest)
    together, most = tf.reduce_sum(sizes), 4 * most_samples(clip) + MOST_CLIPS * FURTHER_BYTES
    message = f"wav: expected at most {most} bytes in one request, got {{}}; send fewer files in one"
    wav = _require(wav, tf.less_equal(together, most), message, together)

    chunks = wav_chunks.walk(wav)
    message = f"wav: expected fewer than {wav_chunks.MOST_CHUNKS} chunks a file, got {{}} or more"
    wav = _require(wav, tf.less(chunks.count, wav_chunks.MOST_CHUNKS), message, chunks.count)
    message = "wav: expected one chunk named fmt, of 16 bytes or more and before the data; {} of the files have none so"
    wav = _require_of_all(wav, chunks.has_fmt, message)
    format_and_bits = tf.stack([chunks.format, chunks.bits], axis=1)
    usable = tf.reduce_all(tf.equal(format_and_bits, [PCM_FORMAT, 16]), axis=1)
    wrong = tf.boolean_mask(format_and_bits, tf.logical_not(usable))
    message = (
        f"wav: expected format {PCM_FORMAT} (PCM) and 16 bits a sample, got {{}} [format, bits]; "
        "write the file as plain 16-bit PCM, or send its samples as pcm"
    )
    wav = _require(wav, tf.equal(tf.size(wrong), 0), message, wrong)
    rates = tf.boolean_mask(chunks.rate, tf.not_equal(chunks.rate, clip.sample_rate))
    message = f"wav: expected a sample rate of {clip.sample_rate} Hz, got {{}}; resample the file first"
    wav = _require(wav, tf.equal(tf.size(rates), 0), message, tf.reduce_max(rates))
    frame_bytes = 2 * chunks.channels
    right = [
        chunks.channels > 0,
        tf.equal(chunks.frame_bytes, frame_bytes),
        tf.equal(chunks.byte_rate, frame_bytes * clip.sample_rate),
    ]
    message = "wav: channels, bytes a frame and bytes a second contradict each other in {} of the files"
    wav = _require_of_all(wav, tf.reduce_all(tf.stack(right, axis=1), axis=1), message)
    message = "wav: expected one chunk named data; {} of the files have none, or several"
    wav = _require_of_all(wav, tf.equal(chunks.data, 1), message)
    missing = tf.boolean_mask(chunks.claimed - chunks.size, chunks.claimed > chunks.size)
    message = "wav: the file is cut: {} bytes of the data that it announces are missing"
    wav = _require(wav, tf.equal(tf.size(missing), 0), message, missing)
    frames = chunks.size // tf.maximum(frame_bytes, 1)
    least = tf.reduce_min(frames)
    wav = _require(wav, tf.greater(least, 0), "wav: expected at least one sample, got {}", least)
    return Sound(_require_an_hour(wav, frames, clip, "wav"), chunks.start, chunks.channels, frames)


def window_pcm(joined: StringTensor, position: IntTensor, length: IntTensor, channels: IntTensor) -> StringTensor:
    """Windows of all clips' bytes, one after another in a scalar string -> mono int16 samples: string [windows].

    Channels are averaged and rounded as preprocessing rounds, so that a file is answered as its samples are.

    Args:
        joined: the clips.
        position, length: of each window in it, int64 [windows], in bytes.
        channels: of each window, int64 [windows].
    """
    windows = tf.strings.substr(joined, position, length)

    def mix(window: tuple[StringTensor, IntTensor]) -> StringTensor:
        content, count = window
        frames = tf.reshape(tf.io.decode_raw(content, tf.int16), tf.stack([-1, count]))
        mono = tf.round(tf.reduce_mean(tf.cast(frames, tf.float32), axis=1, keepdims=True)) / PCM_SCALE
        # The one way in the graph from samples to bytes; the rate does not matter.
        riff = tf.audio.encode_wav(mono, 1)
        size = 2 * tf.shape(mono)[0]
        return tf.strings.substr(riff, tf.strings.length(riff) - size, size)

    def mixed() -> StringTensor:
        spec = tf.TensorSpec([], tf.string)
        return tf.map_fn(mix, (windows, channels), fn_output_signature=spec, parallel_iterations=1)

    return tf.cond(tf.reduce_all(tf.equal(channels, 1)), lambda: windows, mixed)


def pcm_to_waveform(pcm: StringTensor, clip: ClipFormat) -> FloatTensor:
    """String [windows], each at most a clip of int16 samples -> float32 [windows, clip samples] in [-1, 1).

    A shorter one is repeated, as preprocessing.audio.samples.fit_clip has it.
    """
    decoded = tf.io.decode_raw(pcm, tf.int16, fixed_length=clip.waveform_bytes)
    samples = tf.reshape(decoded, [-1, clip.samples])
    lengths = tf.strings.length(pcm) // 2

    def repeated() -> IntTensor:
        return tf.gather(samples, tf.range(clip.samples)[tf.newaxis] % lengths[:, tf.newaxis], batch_dims=1)

    whole = tf.reduce_all(tf.greater_equal(lengths, clip.samples))
    return tf.cast(tf.cond(whole, lambda: samples, repeated), tf.float32) / PCM_SCALE


def parse_waveform(examples: StringTensor, clip: ClipFormat) -> FloatTensor:
    """Read the waveform, and nothing else, from serialised tf.Examples [batch]: float32 [batch, clip samples]."""
    (feature,), examples = _find_features(examples, [WAVEFORM])
    pcm = tf.io.decode_raw(_only_value(examples, feature, clip), tf.int16)
    return tf.cast(tf.reshape(pcm, [-1, clip.samples]), tf.float32) / PCM_SCALE


def multi_hot_labels(examples: StringTensor, tag_names: StringTensor) -> FloatTensor:
    """Serialised tf.Examples [batch], tag names string [n_tags] -> float32 [batch, n_tags]; other tags are ignored."""
    (feature,), examples = _find_features(examples, ["tags"])
    tags, of_bytes = example_parser.bytes_list(examples, feature)
    examples = _require_of_all(
        examples, of_bytes, "examples: feature tags: expected a list of bytes, got another type in {} of them"
    )
    labels = tf.fill([tf.size(examples), tf.size(tag_names)], False)

    def goes_on(start: IntTensor, sound: BoolTensor, count: IntTensor, labels: BoolTensor) -> BoolTensor:
        del labels
        return tf.logical_and(tf.reduce_any(tf.logical_and(sound, start < tags.end)), count <= MOST_TAGS)

    def step(
        start: IntTensor, sound: BoolTensor, count: IntTensor, labels: BoolTensor
    ) -> tuple[IntTensor, BoolTensor, IntTensor, BoolTensor]:
        tag, there = example_parser.next_value(examples, Span(start, tags.end))
        named = tf.equal(example_parser.cut_out(examples, tag)[:, tf.newaxis], tag_names)
        labels = tf.logical_or(labels, tf.logical_and(there[:, tf.newaxis], named))
        return tag.end, tf.logical_or(there, tf.equal(start, tags.end)), count + 1, labels

    state = (tags.start, tf.ones_like(tags.start, tf.bool), tf.constant(0), labels)
    _, sound, count, labels = tf.while_loop(goes_on, step, state, parallel_iterations=1)
    message = f"examples: feature tags: expected at most {MOST_TAGS} tags, got {{}} or more"
    labels = _require(labels, tf.less_equal(count, MOST_TAGS), message, count)
    return tf.cast(_require_of_all(labels, sound, DAMAGED), tf.float32)


def _find_features(examples: StringTensor, names: Sequence[str]) -> tuple[list[Span], StringTensor]:
    """Find features by name in strings [batch]; the examples go on checked."""
    features, _ = example_parser.features_of(examples)
    found, sound, count = example_parser.find_features(examples, features, names)
    message = f"examples: expected at most {example_parser.MOST_FEATURES} features, got {{}} or more"
    most = tf.reduce_max(count)
    examples = _require(examples, tf.less_equal(most, example_parser.MOST_FEATURES), message, most)
    return found, _require_of_all(examples, sound, DAMAGED)


def _only_value(examples: StringTensor, feature: Span, clip: ClipFormat) -> StringTensor:
    """Return the one value of the feature ``waveform``: string [batch]."""
    content = f"{clip.samples} little-endian int16"
    values, of_bytes = example_parser.bytes_list(examples, feature)
    value, there = example_parser.next_value(examples, values)
    only = tf.logical_and(tf.logical_and(of_bytes, there), tf.equal(value.end, values.end))
    message = (
        f"examples: feature {WAVEFORM}: expected one value of bytes ({content}); "
        "it is missing, of another type, or not one value in {} of them"
    )
    examples = _require_of_all(examples, only, message)
    lengths = value.end - value.start
    wrong = tf.boolean_mask(lengths, tf.not_equal(lengths, clip.waveform_bytes))
    message = f"examples: feature {WAVEFORM} must be {clip.waveform_bytes} bytes ({content}), got {{}}"
    examples = _require(examples, tf.equal(tf.size(wrong), 0), message, wrong)
    return example_parser.cut_out(examples, value)


def _check_strings(value: StringTensor, name: str, what: str) -> StringTensor:
    value = _require(
        value,
        tf.equal(tf.rank(value), 1),
        f"{name}: expected a list of {what}, one a clip, got shape {{}}",
        tf.shape(value),
    )
    return tf.reshape(_require_clips(value, name), [-1])


def _require_an_hour(value: StringTensor, samples: IntTensor, clip: ClipFormat, name: str) -> StringTensor:
    """``samples``: of each clip, int64 [clips]; of all together there may be little more."""
    longest, most = tf.reduce_max(samples), MOST_SECONDS * clip.sample_rate
    message = f"{name}: expected at most an hour ({most} samples), got {{}}; send a longer one in parts"
    value = _require(value, tf.less_equal(longest, most), message, longest)
    together, most = tf.reduce_sum(samples), most_samples(clip)
    message = f"{name}: expected at most {most} samples in one request, got {{}}; send fewer clips in one"
    return _require(value, tf.less_equal(together, most), message, together)


def _require_clips(value: Tensor, name: str) -> Tensor:
    """From one to MOST_CLIPS."""
    clips = tf.shape(value)[0]
    value = _require(value, tf.greater(clips, 0), f"{name}: expected at least one clip, got {{}}", clips)
    message = f"{name}: expected at most {MOST_CLIPS} clips in one request, got {{}}; send the others in another one"
    return _require(value, tf.less_equal(clips, MOST_CLIPS), message, clips)


def _require_samples_alone(pcm: StringTensor, clip: ClipFormat) -> StringTensor:
    other, words = content_check(clip)(pcm)
    return _require_none_other(pcm, other, words, "pcm: expected little-endian int16 samples and nothing else; clip ")


def _require_riff(wav: StringTensor, clip: ClipFormat) -> StringTensor:
    header = tf.io.decode_raw(wav, tf.uint8, fixed_length=wav_chunks.FIRST_CHUNK)
    riff = tf.logical_and(
        tf.reduce_all(tf.equal(header[:, :4], list(b"RIFF")), axis=1),
        tf.reduce_all(tf.equal(header[:, 8:], list(b"WAVE")), axis=1),
    )
    other, words = content_check(clip)(wav)
    other = tf.logical_and(other, tf.logical_not(riff))
    wav = _require_none_other(wav, other, words, "wav: expected RIFF files of type WAVE; clip ")
    message = "wav: expected RIFF files of type WAVE, got {} of another kind; send MP3 and others as pcm, decoded"
    return _require_of_all(wav, riff, message)


def _require_none_other(value: StringTensor, other: BoolTensor, words: StringTensor, begin: str) -> StringTensor:
    """``value`` where no clip is something else; the words of the first that is."""
    first = tf.argmax(tf.cast(other, tf.int32))
    message = tf.strings.join([begin, tf.strings.as_string(first), " ", words[first]])
    assertion = tf.debugging.Assert(tf.logical_not(tf.reduce_any(other)), [message])
    with tf.control_dependencies([assertion]):
        return tf.identity(value)


def _unusable_and_peak(waveform: FloatTensor) -> FloatTensor:
    """Float32 [clips, samples] -> [clips, 2]: how many values are not finite, and the largest size."""
    unusable = tf.reduce_sum(tf.cast(tf.logical_not(tf.math.is_finite(waveform)), tf.float32), axis=1)
    return tf.stack([unusable, tf.reduce_max(tf.abs(waveform), axis=1)], axis=1)


def _require_none_unusable(value: FloatTensor, unusable: IntTensor, name: str) -> FloatTensor:
    return _require(
        value, tf.equal(unusable, 0), f"{name}: expected finite values, got {{}} NaN or infinite ones", unusable
    )


def _require_of_all(value: Tensor, good: BoolTensor, message: str) -> Tensor:
    """As ``_require``, of all elements of ``good``, bool [n]; shown is how many are not."""
    bad = tf.reduce_sum(tf.cast(tf.logical_not(good), tf.int32))
    return _require(value, tf.equal(bad, 0), message, bad)


def _require(value: Tensor, condition: BoolTensor, message: str, shown: Tensor) -> Tensor:
    """``value``, which nothing can read before ``condition`` held; ``message`` has one {} for ``shown``."""
    assertion = tf.debugging.Assert(condition, [tf.strings.format(message, shown)])
    with tf.control_dependencies([assertion]):
        return tf.identity(value)
