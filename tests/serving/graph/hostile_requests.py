"""Requests that a server should survive: tensors for any signature, and bytes for the wire.

Every request is a function of a seed and its number, so one that does harm can be asked again by these two alone::

    request = tensor_request(seed=7, number=1234)

``expected`` says what the right answer is: "refused", "answered", or "either" where chance decides.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from exported_model import pcm_bytes, stored_example, tone

from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from serving.client import messages

Expected = Literal["refused", "answered", "either"]
Rng = np.random.Generator
Inputs = dict[str, np.ndarray[Any, Any]]

GOOD_EVERY = 20
"""Each so many-th request is a good one."""

INPUT_OF = {
    "serving_default": "examples",
    "waveform": "waveform",
    "pcm": "pcm",
    "wav": "wav",
    "embedding": "pcm",
    "classify": "inputs",
    "labels": "examples",
    "model_card": "request",
}
OF_EXAMPLES = ("serving_default", "classify")
OF_PCM = ("pcm", "embedding")

EXTREMES = (0, 1, 2, 3, 4, 7, 8, 15, 17, 24, 32, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
EXTREMES_32 = (*EXTREMES, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class TensorRequest:
    """Tensors for a signature; strings are arrays of ``bytes`` (dtype object)."""

    name: str
    signature: str
    inputs: Inputs
    expected: Expected


@dataclass(frozen=True)
class WireRequest:
    """Bytes for a server's port.

    Attributes:
        transport: "grpc": ``body`` is the message of the method ``target``; "http": the body of a request to the path
            ``target``; "tcp": what goes over a bare connection to the port ``target`` ("grpc" or "rest").
        expected: of a "tcp" request always "either": there may be no answer.
        cut: "tcp" alone: how the connection ends: "close", "reset", or "drip", byte by byte and then closed.
    """

    name: str
    transport: Literal["grpc", "http", "tcp"]
    target: str
    body: bytes
    expected: Expected
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    cut: Literal["close", "reset", "drip"] = "close"


def strings(values: Sequence[bytes] | bytes, shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any]:
    """Byte strings as an array, [n] or of a shape; numpy would guess a type with a fixed length."""
    if isinstance(values, bytes):
        array = np.empty(shape or (), object)
        array.fill(values)
        return array
    array = np.empty(len(values), object)
    array[:] = values
    return array if shape is None else array.reshape(shape)


# The good requests


@functools.cache
def good_example() -> bytes:
    return stored_example(tone(3), ("piano",))


@functools.cache
def good_pcm(seconds: float = 1.0) -> bytes:
    return pcm_bytes(seconds, 330)


@functools.cache
def good_wav(channels: int = 1, seconds: float = 0.5) -> bytes:
    samples = np.frombuffer(good_pcm(seconds), "<i2")
    return riff([fmt(channels=channels), chunk(b"data", np.repeat(samples, channels).astype("<i2").tobytes())])


def good_inputs(signature: str) -> Inputs:
    values = {
        "waveform": lambda: np.pad(tone(2), (0, CLIP_SAMPLES - 2 * SAMPLE_RATE))[None],
        "pcm": lambda: strings([good_pcm()]),
        "embedding": lambda: strings([good_pcm()]),
        "wav": lambda: strings([good_wav()]),
    }
    return {INPUT_OF[signature]: values.get(signature, lambda: strings([good_example()]))()}


# RIFF


def chunk(name: bytes, content: bytes, size: int | None = None, pad: bool = True) -> bytes:
    end = b"\0" if pad and len(content) % 2 else b""
    return name + struct.pack("<I", len(content) if size is None else size) + content + end


def fmt(code: int = 1, channels: int = 1, rate: int = SAMPLE_RATE, bits: int = 16, extra: bytes = b"") -> bytes:
    frame = channels * bits // 8
    numbers = (code, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *numbers) + extra)


def riff(chunks: Sequence[bytes], size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


# tf.Example, by hand where it has to be wrong


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def part(number: int, content: bytes, size: int | None = None) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(content) if size is None else size) + content


def entry(key: bytes, feature: bytes) -> bytes:
    return part(1, part(1, key) + part(2, feature))


def bytes_list(*values: bytes) -> bytes:
    return part(1, b"".join(part(1, value) for value in values))


def floats(*values: float) -> bytes:
    return part(2, part(1, struct.pack(f"<{len(values)}f", *values)))


def integers(*values: int) -> bytes:
    return part(3, part(1, b"".join(varint(value) for value in values)))


def example(*entries: bytes) -> bytes:
    return part(1, b"".join(entries))


@functools.cache
def good_features() -> tuple[tuple[bytes, bytes], ...]:
    """Name and list of the two large features; a model reads the waveform alone."""
    stored = messages.Example.FromString(good_example()).features.feature
    return tuple((name.encode(), stored[name].bytes_list.value[0]) for name in ("log_mel", "waveform"))


# Kinds of tensor requests: (rng, signature) -> name, inputs, expected

Made = tuple[str, Inputs, Expected]


def _choice(rng: Rng, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _small_shape(rng: Rng, rank: int) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(0, 4, rank))


def wrong_dtype(rng: Rng, signature: str) -> Made:
    right = np.float32 if signature == "waveform" else object
    names = ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "O")
    dtype = _choice(rng, [np.dtype(name) for name in names if np.dtype(name) != right])
    rank = int(rng.integers(6))
    shape = (1, CLIP_SAMPLES) if rng.random() < 0.1 else _small_shape(rng, rank)
    value = strings(b"ab", shape) if dtype.kind == "O" else np.zeros(shape, dtype)
    return f"{dtype} of shape {shape}", {INPUT_OF[signature]: value}, "refused"


def wrong_rank(rng: Rng, signature: str) -> Made:
    right = 2 if signature == "waveform" else 1
    rank = _choice(rng, [rank for rank in (0, 1, 2, 3, 4, 5, 6, 12) if rank != right])
    shape = _small_shape(rng, rank) if rank < 7 else (1,) * rank
    if signature == "waveform":
        if rank and rng.random() < 0.5:
            shape = (*(1,) * (rank - 1), CLIP_SAMPLES)
        value: Any = np.zeros(shape, np.float32)
    else:
        (good,) = good_inputs(signature).values()
        value = strings(bytes(good[0]), shape)
    return f"rank {rank}, shape {shape}", {INPUT_OF[signature]: value}, "refused"


def no_clips(rng: Rng, signature: str) -> Made:
    if signature == "waveform":
        shape = (0, _choice(rng, [0, 1, CLIP_SAMPLES, 2**31, 2**40]))
        return f"no clips, shape {shape}", {"waveform": np.zeros(shape, np.float32)}, "refused"
    return "no clips", {INPUT_OF[signature]: strings([])}, "refused"


def wrong_names(rng: Rng, signature: str) -> Made:
    good = good_inputs(signature)
    (value,) = good.values()
    kind = _choice(rng, ["missing", "unknown", "extra", "other case", "long"])
    inputs = {
        "missing": {},
        "unknown": {"nope": value},
        "extra": {**good, "nope": strings([b"a"])},
        "other case": {INPUT_OF[signature].upper(): value},
        "long": {"x" * 10_000: value},
    }[kind]
    return f"input {kind}", inputs, "refused"


def waveform_length(rng: Rng, _: str) -> Made:
    sizes = [0, 1, 2, 787, CLIP_SAMPLES - 787, CLIP_SAMPLES - 1, CLIP_SAMPLES + 1, 2 * CLIP_SAMPLES]
    shape = (int(rng.integers(1, 4)), _choice(rng, [*sizes, int(rng.integers(1, CLIP_SAMPLES))]))
    if rng.random() < 0.2:
        shape = _choice(rng, [(100_000, 1), (1000, 0), (CLIP_SAMPLES, 1), (2**31, 0), (2**40, 0)])
    return f"waveform {shape}", {"waveform": np.zeros(shape, np.float32)}, "refused"


def waveform_value(rng: Rng, _: str) -> Made:
    bad = [np.nan, np.inf, -np.inf, 1.0001, -1.01, 2, 255, -32768, 1e9, 3.4e38, -3.4e38]
    value = np.float32(_choice(rng, [*bad, 1.0, -1.0, 1e-45, -1e-40, 1e-38, -0.0]))
    clips = np.zeros((int(rng.integers(1, 4)), CLIP_SAMPLES), np.float32)
    where = "all" if rng.random() < 0.3 else "one"
    if where == "all":
        clips[:] = value
    else:
        clips[int(rng.integers(len(clips))), int(rng.integers(CLIP_SAMPLES))] = value
    fine = bool(np.abs(value) <= 1)
    return f"{value} in {where} of {clips.shape}", {"waveform": clips}, "answered" if fine else "refused"


def waveform_bits(rng: Rng, _: str) -> Made:
    clip = np.frombuffer(rng.bytes(4 * CLIP_SAMPLES), np.float32).reshape(1, -1)
    return "random bits", {"waveform": clip}, "refused"


def pcm_length(rng: Rng, _: str) -> Made:
    wrong = _choice(rng, [b"", b"a", b"abc", bytes(2 * CLIP_SAMPLES + 1), rng.bytes(2 * int(rng.integers(9999)) + 1)])
    clips = [good_pcm()] * int(rng.integers(3))
    clips.insert(int(rng.integers(len(clips) + 1)), wrong)
    return f"{len(wrong)} bytes in one of {len(clips)}", {"pcm": strings(clips)}, "refused"


def pcm_many(rng: Rng, _: str) -> Made:
    count = _choice(rng, [129, 130, 1000, 100_000, 2, 5, 9])
    clips = strings(b"\0\x80", (count,))
    return f"{count} clips of one sample", {"pcm": clips}, "answered" if count <= 128 else "refused"


def pcm_odd_sounds(rng: Rng, _: str) -> Made:
    pcm = _choice(rng, [b"\0\x80", b"\xff\x7f", b"\0\x80\xff\x7f" * 5000, bytes(2), rng.bytes(20_000), b"RIFF"])
    return f"{len(pcm)} bytes of extremes or noise", {"pcm": strings([pcm])}, "answered"


@functools.cache
def files_and_text() -> dict[str, bytes]:
    """What is sent in place of samples, with no audio in it."""
    frames = [b"\xff\xfb\x90\x64" + bytes([number]) * 413 for number in range(9)]
    adts = [b"\xff\xf1\x50\x80\x0d\x9f\xfc" + bytes([number]) * 101 for number in range(9)]
    noise = np.random.default_rng(0).normal(0, 0.1, 5000)
    return {
        "WAV": good_wav(2),
        "ID3": b"ID3\4\0\0\0\0\1\0" + bytes(300),
        "MPEG frames": b"".join(frames),
        "ADTS frames": b"".join(adts),
        "Ogg": b"OggS\0\2" + bytes(100),
        "FLAC": b"fLaC\0\0\0\x22" + bytes(100),
        "MP4": b"\0\0\0\x20ftypM4A " + bytes(100),
        "WebM": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1\x42\xf7\x81\1\x42\x82\x84webm" + bytes(100),
        "base64": base64.b64encode(good_pcm()),
        "base64 of silence": base64.b64encode(bytes(9000)),
        "base64 in lines": base64.encodebytes(good_pcm()),
        "base64 for URLs": base64.urlsafe_b64encode(good_pcm()),
        "JSON": json.dumps({"signature_name": "pcm", "instances": [1] * 50}).encode(),
        "float32": noise.astype("<f4").tobytes(),
        "float64": noise.tobytes(),
    }


def pcm_files_and_text(rng: Rng, _: str) -> Made:
    name = _choice(rng, list(files_and_text()))
    clips = [good_pcm()] * int(rng.integers(3))
    clips.insert(int(rng.integers(len(clips) + 1)), files_and_text()[name])
    return f"{name} in place of samples", {"pcm": strings(clips)}, "refused"


def pcm_long(rng: Rng, _: str) -> Made:
    if rng.random() < 0.05:
        return "an hour and a sample", {"pcm": strings([bytes(2 * 3600 * SAMPLE_RATE + 2)])}, "refused"
    samples = CLIP_SAMPLES + int(rng.integers(-1, 2))
    return f"{samples} samples", {"pcm": strings([bytes(2 * samples)])}, "answered"


RIFF_FIELDS = {  # name: position, bytes, right value
    "RIFF size": (4, 4, None),
    "fmt size": (16, 4, 16),
    "format": (20, 2, 1),
    "channels": (22, 2, 1),
    "rate": (24, 4, SAMPLE_RATE),
    "bytes a second": (28, 4, 2 * SAMPLE_RATE),
    "block align": (32, 2, 2),
    "bits": (34, 2, 16),
    "data size": (40, 4, None),
}


def wav_field(rng: Rng, _: str) -> Made:
    name = _choice(rng, list(RIFF_FIELDS))
    position, size, right = RIFF_FIELDS[name]
    value = _choice(rng, EXTREMES if size == 2 else (*EXTREMES_32, 8000, 44_100, 48_000, 16_001))
    wav = bytearray(good_wav())
    wav[position : position + size] = value.to_bytes(size, "little")
    expected: Expected = "refused"
    if right is None:
        unknown = value >= 0x7FFF0000  # to the end of the file
        expected = "answered" if name == "RIFF size" or unknown else "either" if value < len(wav) - 44 else "refused"
    elif value == right:
        expected = "answered"
    return f"{name} is {value}", {"wav": strings([bytes(wav)])}, expected


def wav_cut(rng: Rng, _: str) -> Made:
    wav = good_wav(2)
    end = int(rng.integers(0, 60)) if rng.random() < 0.7 else int(rng.integers(len(wav)))
    return f"RIFF cut after {end} bytes", {"wav": strings([wav[:end]])}, "refused"


@functools.cache
def odd_riffs() -> dict[str, tuple[bytes, Expected]]:
    data = chunk(b"data", good_pcm(0.2))
    odd = chunk(b"LIST", b"INFOabc", pad=False)
    return {
        "two data chunks": (riff([fmt(), data, data]), "refused"),
        "no data chunk": (riff([fmt()]), "refused"),
        "no fmt chunk": (riff([data]), "refused"),
        "no chunk": (riff([]), "refused"),
        "data before fmt": (riff([data, fmt()]), "refused"),
        "two fmt chunks": (riff([fmt(), fmt(channels=2), data]), "refused"),
        "LIST before data": (riff([fmt(), chunk(b"LIST", b"INFO" + bytes(10)), data]), "answered"),
        "odd LIST, not padded": (riff([fmt(), odd, data]), "answered"),
        "odd LIST, padded": (riff([fmt(), chunk(b"LIST", b"INFOabc"), data]), "answered"),
        "LIST of 4 GB": (riff([fmt(), chunk(b"LIST", b"INFO", 0xFFFFFFF0), data]), "refused"),
        "LIST of 2 GB": (riff([fmt(), chunk(b"LIST", b"INFO", 0x7FFFFFFF), data]), "refused"),
        "2 GB claimed after the data": (riff([fmt(), data, chunk(b"LIST", b"", 0x7FFFFFF0)]), "answered"),
        "JUNK first": (riff([chunk(b"JUNK", bytes(28)), fmt(), data]), "answered"),
        "JUNK of 4 GB first": (riff([chunk(b"JUNK", bytes(28), 0xFFFFFFFF), fmt(), data]), "refused"),
        "JUNK, then a wrong rate": (riff([chunk(b"JUNK", bytes(28)), fmt(rate=44_100), data]), "refused"),
        "JUNK, then float": (riff([chunk(b"JUNK", bytes(28)), fmt(3, bits=32), data]), "refused"),
        "JUNK, then rate 2^31 + 16000": (riff([chunk(b"JUNK", bytes(2)), fmt(rate=2**31 + 16_000), data]), "refused"),
        "a thousand chunks": (riff([fmt(), *[chunk(b"abcd", b"12")] * 1000, data]), "answered"),
        "100,000 empty JUNKs": (riff([*[chunk(b"JUNK", b"")] * 100_000, fmt(), data]), "refused"),
        "data of one byte": (riff([fmt(), chunk(b"data", b"a")]), "refused"),
        "no samples": (riff([fmt(), chunk(b"data", b"")]), "refused"),
        "half a frame": (riff([fmt(channels=2), chunk(b"data", b"ab")]), "refused"),
        "32767 channels": (riff([fmt(channels=32_767), chunk(b"data", bytes(65_534))]), "answered"),
        "65535 channels": (riff([fmt(channels=65_535), chunk(b"data", bytes(131_070))]), "refused"),
        "no channels": (riff([fmt(channels=0), data]), "refused"),
        "float": (riff([fmt(3, bits=32), data]), "refused"),
        "24 bits": (riff([fmt(bits=24), data]), "refused"),
        "8 bits": (riff([fmt(bits=8), data]), "refused"),
        "A-law": (riff([fmt(6, bits=8), data]), "refused"),
        "extensible": (riff([fmt(0xFFFE, extra=bytes(24)), data]), "refused"),
        "fmt of 18 bytes": (riff([fmt(extra=bytes(2)), data]), "answered"),
        "RIFX": (b"RIFX" + good_wav()[4:], "refused"),
        "RF64": (b"RF64" + good_wav()[4:], "refused"),
        "RIFF in RIFF": (riff([good_wav()]), "refused"),
        "MP3": (b"ID3\x04" + bytes(400), "refused"),
    }


def wav_chunks(rng: Rng, _: str) -> Made:
    random: dict[str, tuple[bytes, Expected]] = {
        "random bytes after WAVE": (b"RIFF\xff\0\0\0WAVE" + rng.bytes(300), "refused"),
        "random bytes after fmt": (good_wav()[:36] + rng.bytes(300), "either"),
    }
    made = {**odd_riffs(), **random}
    name = _choice(rng, list(made))
    wav, expected = made[name]
    return name, {"wav": strings([wav])}, expected


def wav_flips(rng: Rng, _: str) -> Made:
    wav = bytearray(good_wav(int(rng.integers(1, 4))))
    for position in rng.integers(0, 60, int(rng.integers(1, 4))):
        wav[position] ^= 1 << int(rng.integers(8))
    return "flipped bits in the header", {"wav": strings([bytes(wav)])}, "either"


def wav_many(rng: Rng, _: str) -> Made:
    count = _choice(rng, [129, 10_000, 2, 6])
    return f"{count} files", {"wav": strings(good_wav(), (count,))}, "answered" if count <= 128 else "refused"


def _examples(name: str, signature: str, wrong: bytes, expected: Expected, rng: Rng) -> Made:
    """A wrong example alone or beside a good one."""
    values = [wrong] if rng.random() < 0.7 else [good_example(), wrong]
    return name, {INPUT_OF[signature]: strings(values)}, expected


def example_garbage(rng: Rng, signature: str) -> Made:
    good = good_example()
    size = int(rng.integers(6, 3000))
    made = {
        "random bytes": rng.bytes(size),
        "a hundred kilobytes of them": rng.bytes(100_000),
        "text": b"not an example" * 10,
        "JSON": json.dumps({"features": {"feature": {}}}).encode(),
        "base64": base64.b64encode(good[:3000]),
        "cut": good[: int(rng.integers(1, len(good)))],
        "cut short": good[: int(rng.integers(1, 40))],
        "a byte too many": good + b"\0",
        "zeros": bytes(size),
        "groups in groups": b"\x0b" * 100_000,
        "groups in features": part(1, b"\x0b" * 100_000),
        "fields in fields": functools.reduce(lambda inner, _: part(1, inner), range(300), b""),
        "length of 2^63": b"\n" + varint(2**63 - 1) + b"abc",
        "length without an end": b"\n" + b"\xff" * 20,
        "map entry longer than the map": part(1, part(1, b"abc", 1_000_000)),
        "list longer than the feature": example(entry(b"waveform", part(1, part(1, b"abc", 2**31)))),
        "wrong wire type": part(1, b"\x08\x01"),
        "field number 0": part(1, b"\x02\x01a"),
        "SequenceExample": part(1, entry(b"a", bytes_list(b"b"))[2:]) + part(2, b""),
    }
    name = _choice(rng, list(made))
    expected: Expected = "either" if name == "fields in fields" else "refused"  # may be a feature with an odd key
    if signature == "labels" and name == "list longer than the feature":
        expected = "answered"  # waveform is not looked at there
    return _examples(f"garbage: {name}", signature, made[name], expected, rng)


def example_flips(rng: Rng, signature: str) -> Made:
    wrong = bytearray(good_example())
    for position in rng.integers(0, 120, int(rng.integers(1, 4))):
        wrong[position] ^= 1 << int(rng.integers(8))
    return _examples("flipped bits", signature, bytes(wrong), "either", rng)


def example_feature(rng: Rng, signature: str) -> Made:
    features = dict(good_features())
    changed = _choice(rng, list(features))
    value = features[changed]
    mel = np.frombuffer(features[b"log_mel"], "<f2").copy()
    position = int(rng.integers(len(mel)))
    lists = {
        "missing": None,
        "without a value": b"",
        "an empty list": bytes_list(),
        "two values": bytes_list(value, value),
        "a thousand values": bytes_list(*[b"a"] * 1000),
        "floats": floats(1.0, 2.0),
        "integers": integers(1, 2**64 - 1),
        "two kinds": bytes_list(value) + floats(1.0),
        "empty": bytes_list(b""),
        "one byte": bytes_list(b"a"),
        "one byte short": bytes_list(value[:-1]),
        "one byte more": bytes_list(value + b"a"),
        "one sample short": bytes_list(value[:-2]),
        "the other's bytes": bytes_list(features[b"log_mel" if changed == b"waveform" else b"waveform"]),
    }
    name = _choice(rng, [*lists, *(["NaN", "inf", "-inf", "65504", "-101", "61"] if changed == b"log_mel" else [])])
    if name in lists:
        feature = lists[name]
    else:
        mel[position] = np.float16(float(name))
        feature = bytes_list(mel.tobytes())
    entries = [entry(key, bytes_list(content)) for key, content in features.items() if key != changed]
    entries += [] if feature is None else [entry(changed, feature)]
    expected: Expected = "answered" if changed == b"log_mel" else "either" if name == "two kinds" else "refused"
    return _examples(f"{changed.decode()}: {name}", signature, example(*entries), expected, rng)


@functools.cache
def odd_examples() -> dict[str, tuple[bytes, Expected]]:
    entries = [entry(key, bytes_list(value)) for key, value in good_features()]
    return {
        "no features": (b"", "refused"),
        "empty features": (example(), "refused"),
        "keys twice": (example(*entries, entry(b"waveform", bytes_list(b"a"))), "refused"),
        "keys twice, the wrong one first": (example(entry(b"waveform", bytes_list(b"a")), *entries), "either"),
        "key in other case": (example(entries[0], entry(b"WAVEFORM", bytes_list(good_features()[1][1]))), "refused"),
        "empty key": (example(entry(b"", bytes_list(b"a")), *entries), "answered"),
        "key of 10,000 bytes": (example(entry(b"\xff" * 10_000, bytes_list(b"a")), *entries), "answered"),
        "255 other features": (example(*[entry(b"x", floats(1.0))] * 254, *entries), "answered"),
        "ten thousand other features": (example(*[entry(b"x", floats(1.0))] * 10_000, *entries), "refused"),
        "more bytes than allowed": (example(entry(b"x", bytes_list(bytes(2_200_000))), *entries), "refused"),
        "unknown field": (part(1, b"".join(entries) + part(9, b"abc")), "refused"),
    }


def example_shape(rng: Rng, signature: str) -> Made:
    name = _choice(rng, list(odd_examples()))
    wrong, expected = odd_examples()[name]
    return _examples(name, signature, wrong, expected, rng)


@functools.cache
def odd_tags() -> dict[str, tuple[bytes, Expected]]:
    return {
        "no tags": (example(entry(b"tags", bytes_list())), "answered"),
        "tags of no kind": (example(entry(b"tags", b"")), "answered"),
        "1024 tags": (example(entry(b"tags", bytes_list(*[b"piano"] * 1024))), "answered"),
        "1025 tags": (example(entry(b"tags", bytes_list(*[b""] * 1025))), "refused"),
        "a million tags": (example(entry(b"tags", bytes_list(*[b""] * 1_000_000))), "refused"),
        "a tag of a megabyte": (example(entry(b"tags", bytes_list(bytes(1_000_000)))), "answered"),
        "tags that are not UTF-8": (example(entry(b"tags", bytes_list(b"\xff\xfe", b"m\xe4nner"))), "answered"),
        "tags as floats": (example(entry(b"tags", floats(1.0, float("nan")))), "refused"),
        "tags as integers": (example(entry(b"tags", integers(1))), "refused"),
        "tags twice": (example(*[entry(b"tags", bytes_list(b"piano"))] * 2), "answered"),
    }


def labels_tags(rng: Rng, _: str) -> Made:
    name = _choice(rng, list(odd_tags()))
    wrong, expected = odd_tags()[name]
    values = [wrong] if rng.random() < 0.5 else [wrong, *[example(entry(b"tags", bytes_list(b"")))] * 20]
    return name, {"examples": strings(values)}, expected


Kind = Callable[[Rng, str], Made]
ANY = tuple(INPUT_OF)
KINDS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (wrong_dtype, ANY),
    (wrong_rank, ANY),
    (no_clips, ANY),
    (wrong_names, ANY),
    (waveform_length, ("waveform",)),
    (waveform_value, ("waveform",)),
    (waveform_bits, ("waveform",)),
    (pcm_length, OF_PCM),
    (pcm_many, OF_PCM),
    (pcm_odd_sounds, OF_PCM),
    (pcm_files_and_text, OF_PCM),
    (pcm_long, OF_PCM),
    (wav_field, ("wav",)),
    (wav_field, ("wav",)),
    (wav_cut, ("wav",)),
    (wav_chunks, ("wav",)),
    (wav_chunks, ("wav",)),
    (wav_flips, ("wav",)),
    (wav_many, ("wav",)),
    (example_garbage, OF_EXAMPLES),
    (example_garbage, (*OF_EXAMPLES, "labels")),
    (example_flips, (*OF_EXAMPLES, "labels")),
    (example_feature, OF_EXAMPLES),
    (example_feature, OF_EXAMPLES),
    (example_shape, OF_EXAMPLES),
    (labels_tags, ("labels",)),
)


def tensor_request(seed: int, number: int) -> TensorRequest:
    """Return a request; each GOOD_EVERY-th is a good one, and the kinds take turns."""
    rng = np.random.default_rng([seed, number])
    if number % GOOD_EVERY == 0:
        signature = list(INPUT_OF)[number // GOOD_EVERY % len(INPUT_OF)]
        return TensorRequest(f"good {signature}", signature, good_inputs(signature), "answered")
    kind, signatures = KINDS[number % len(KINDS)]
    signature = _choice(rng, signatures)
    name, inputs, expected = kind(rng, signature)
    return TensorRequest(f"{signature}: {name}", signature, inputs, expected)


# The same over the wire


def predict_message(request: TensorRequest) -> bytes:
    """The serialised PredictRequest."""
    message = messages.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = "autotag", request.signature
    for name, value in request.inputs.items():
        message.inputs[name].CopyFrom(messages.to_tensor(value))
    serialised: bytes = message.SerializeToString()
    return serialised


MOST_JSON_NUMBERS = 20_000


def predict_json(request: TensorRequest, row: bool) -> bytes | None:
    """The JSON body, in row or columnar form; None where it would be large or the form cannot say it."""
    lists = [math.prod(max(size, 1) for size in value.shape) for value in request.inputs.values()]
    if max(lists, default=0) > MOST_JSON_NUMBERS:
        return None
    values = {name: _as_json(value.tolist()) for name, value in request.inputs.items()}
    if not row:
        return json.dumps({"signature_name": request.signature, "inputs": values}).encode()
    if len(values) != 1 or not isinstance(next(iter(values.values())), list):
        return None
    ((name, rows),) = values.items()
    rows = [{name: one} for one in rows]
    return json.dumps({"signature_name": request.signature, "instances": rows}).encode()


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def wire_requests(seed: int, count: int) -> Iterator[WireRequest]:
    """Yield ``count`` tensor requests in the forms they can take, and the requests that only a wire has."""
    for number in range(count):
        request = tensor_request(seed, number)
        yield WireRequest(request.name, "grpc", messages.PREDICT, predict_message(request), request.expected)
        body = predict_json(request, row=bool(number % 2))
        if body is not None:
            # JSON has one kind of number, and a list without elements has no shape.
            same = request.expected == "answered" or "garbage" in request.name
            yield WireRequest(request.name, "http", PREDICT_PATH, body, request.expected if same else "either")
    yield from _broken_messages(seed)
    yield from _odd_json()
    yield from _odd_http()
    yield from _odd_connections(seed)


PREDICT_PATH = "/v1/models/autotag:predict"


def _broken_messages(seed: int) -> Iterator[WireRequest]:
    rng = np.random.default_rng(seed)
    good = predict_message(TensorRequest("", "pcm", good_inputs("pcm"), "answered"))

    def grpc(name: str, body: bytes, expected: Expected = "refused", target: str = messages.PREDICT) -> WireRequest:
        return WireRequest(f"message: {name}", "grpc", target, body, expected)

    for number in range(60):
        yield grpc(f"random bytes {number}", rng.bytes(int(rng.integers(1, 400))))
    for number in range(60):
        yield grpc(f"cut {number}", good[: int(rng.integers(1, len(good)))])
    for number in range(100):
        flipped = bytearray(good)
        for position in rng.integers(0, 60, 2):
            flipped[position] ^= 1 << int(rng.integers(8))
        yield grpc(f"flipped bits {number}", bytes(flipped), "either")
    methods = (messages.CLASSIFY, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS, "/tensorflow.Nope/Nope")
    for target in methods:
        yield grpc("nothing", b"", target=target)
        yield grpc("random bytes", rng.bytes(100), target=target)
    yield grpc("nothing", b"")
    yield grpc("fields in fields", functools.reduce(lambda inner, _: part(1, inner), range(5000), b""))
    for name, (changes, expected) in _odd_tensors().items():
        message = messages.PredictRequest.FromString(good)
        message.inputs["pcm"].CopyFrom(changes)
        yield grpc(name, message.SerializeToString(), expected)
    for field_name, values in {
        "name": ("", "nope", "x" * 100_000, "../../etc/passwd"),
        "signature_name": ("nope", "x" * 100_000, "__saved_model_init_op"),
        "version_label": ("nope", "x" * 100_000),
    }.items():
        for value in values:
            message = messages.PredictRequest.FromString(good)
            setattr(message.model_spec, field_name, value)
            yield grpc(f"{field_name} {value[:30]!r}", message.SerializeToString())
    for version in (-1, 0, 2**63 - 1, -(2**63)):
        message = messages.PredictRequest.FromString(good)
        message.model_spec.version.value = version
        yield grpc(f"version {version}", message.SerializeToString())
    message = messages.PredictRequest.FromString(good)
    message.output_filter.extend(["nope"])
    yield grpc("unknown output", message.SerializeToString())
    del message.output_filter[:]
    message.output_filter.extend(["predictions"] * 2)
    yield grpc("an output twice", message.SerializeToString(), "either")


def _odd_tensors() -> dict[str, tuple[Any, Expected]]:
    def tensor(dtype: int, sizes: Sequence[int], **fields: Any) -> Any:
        made = messages.TensorProto(dtype=dtype, **fields)
        for size in sizes:
            made.tensor_shape.dim.add(size=size)
        return made

    text, one, unknown = 7, {"string_val": [good_pcm()]}, messages.TensorProto(dtype=7, string_val=[good_pcm()])
    unknown.tensor_shape.unknown_rank = True
    odd: dict[str, tuple[Any, Expected]] = {
        "no type": (tensor(0, [1], **one), "refused"),
        "resource": (tensor(20, [1]), "refused"),
        "variant": (tensor(21, [1]), "refused"),
        "reference to a string": (tensor(107, [1], **one), "refused"),
        "quantised": (tensor(11, [1], tensor_content=b"a"), "refused"),
        "unknown rank": (unknown, "refused"),
        "size -1": (tensor(text, [-1], **one), "refused"),
        "size -2^63": (tensor(text, [-(2**63)], **one), "refused"),
        "claims 2^40 strings": (tensor(text, [2**40], **one), "refused"),
        "claims 2^62 strings": (tensor(text, [2**31, 2**31], **one), "refused"),
        "claims 2^80 strings": (tensor(text, [2**20] * 4, **one), "refused"),
        "claims 2^40 of nothing": (tensor(text, [0, 2**40]), "refused"),
        "300 dimensions": (tensor(text, [1] * 300, **one), "refused"),
        "fewer values": (tensor(text, [3], **one), "either"),
        "more values": (tensor(text, [1], string_val=[good_pcm()] * 3), "either"),
        "no values": (tensor(text, [1]), "refused"),
        "floats in a string": (tensor(text, [1], float_val=[1.0]), "refused"),
        "content in a string": (tensor(text, [1], tensor_content=b"\x04abcd"), "either"),
    }
    return {f"tensor: {name}": value for name, value in odd.items()}


def _odd_json() -> Iterator[WireRequest]:
    right = base64.b64encode(good_pcm()).decode()
    pcm = '{"signature_name": "pcm", "instances": %s}'
    waveform = '{"signature_name": "waveform", "instances": %s}'
    bodies: dict[str, tuple[str | bytes, Expected]] = {
        "good": (pcm % f'[{{"b64": "{right}"}}]', "answered"),
        "nothing": ("", "refused"),
        "spaces": (" " * 1000, "refused"),
        "no JSON": ("hello", "refused"),
        "null": ("null", "refused"),
        "a list": ("[]", "refused"),
        "a string": ('"instances"', "refused"),
        "no inputs": ('{"signature_name": "pcm"}', "refused"),
        "both forms": ('{"signature_name": "pcm", "instances": [], "inputs": []}', "refused"),
        "instances null": (pcm % "null", "refused"),
        "instances a number": (pcm % "1", "refused"),
        "no instances": (pcm % "[]", "refused"),
        "an instance null": (pcm % "[null]", "refused"),
        "b64 a number": (pcm % '[{"b64": 1}]', "refused"),
        "b64 null": (pcm % '[{"b64": null}]', "refused"),
        "b64 a list": (pcm % '[{"b64": ["QUJD"]}]', "refused"),
        "b64 an object": (pcm % '[{"b64": {"b64": "QUJD"}}]', "refused"),
        "b64 without its padding": (pcm % f'[{{"b64": "{right.rstrip("=")}"}}]', "answered"),
        "b64 with too much padding": (pcm % f'[{{"b64": "{right}="}}]', "refused"),
        "b64 in lines": (pcm % f'[{{"b64": "{right[:76]}\\n {right[76:]}"}}]', "answered"),
        "b64 cut in a sample": (pcm % f'[{{"b64": "{right.rstrip("=")[:-1]}"}}]', "refused"),
        "b64 for URLs": (pcm % '[{"b64": "-_-_"}]', "refused"),
        "b64 of one letter": (pcm % '[{"b64": "Q"}]', "refused"),
        "b64 with spaces": (pcm % '[{"b64": "QU JD"}]', "refused"),
        "b64 empty": (pcm % '[{"b64": ""}]', "refused"),
        "b64 twice": (pcm % f'[{{"b64": "{right}", "b64": "QQ=="}}]', "either"),
        "b64 and more": (pcm % f'[{{"b64": "{right}", "x": 1}}]', "either"),
        "plain text for bytes": (pcm % '["ab"]', "either"),
        "plain text of odd length": (pcm % '["abc"]', "refused"),
        "lone surrogate": (pcm % '["\\ud800"]', "either"),
        "zero in text": (pcm % '["a\\u0000"]', "either"),
        "invalid UTF-8": (b'{"signature_name": "pcm", "instances": ["\xff\xfe\xfd"]}', "refused"),
        "invalid UTF-8 in a key": (b'{"\xff": 1, "instances": []}', "refused"),
        "UTF-16": (pcm.encode("utf-16"), "refused"),
        "byte order mark": (b"\xef\xbb\xbf" + (pcm % "[]").encode(), "refused"),
        "number for bytes": (pcm % "[1]", "refused"),
        "text for numbers": (waveform % '[["a"]]', "refused"),
        "number in text": (waveform % '[["1.0"]]', "refused"),
        "true for numbers": (waveform % "[[true]]", "refused"),
        "null for numbers": (waveform % "[[null]]", "refused"),
        "b64 for numbers": (waveform % '[{"b64": "AAAA"}]', "refused"),
        "1e400": (waveform % "[[1e400]]", "refused"),
        "1e-400": (waveform % "[[1e-400]]", "refused"),
        "NaN": (waveform % "[[NaN, Infinity, -Infinity]]", "refused"),
        "number of 100,000 digits": (waveform % f"[[{'9' * 100_000}]]", "refused"),
        "0x10": (waveform % "[[0x10]]", "refused"),
        "leading zero": (waveform % "[[01]]", "refused"),
        "ragged": (waveform % "[[1, 2], [1]]", "refused"),
        "ragged in depth": (waveform % "[[1, [1]], 1]", "refused"),
        "empty rows": (waveform % "[[], []]", "refused"),
        "a comma too many": (waveform % "[[1,],]", "refused"),
        "no end": (waveform[:-1] % "[[1, 2", "refused"),
        "comments": ("/* */" + waveform % "[[1]]", "refused"),
        "mixed instances": (pcm % f'[{{"b64": "{right}"}}, {{"pcm": {{"b64": "{right}"}}}}]', "either"),
        "unknown input": (pcm % '[{"nope": 1}]', "refused"),
        "inputs missing": ('{"signature_name": "pcm", "inputs": {}}', "refused"),
        "signature a number": ('{"signature_name": 1, "instances": [1]}', "refused"),
        "signature null": ('{"signature_name": null, "instances": [1]}', "refused"),
        "signature unknown": ('{"signature_name": "nope", "instances": [1]}', "refused"),
        "signature long": (f'{{"signature_name": "{"x" * 100_000}", "instances": [1]}}', "refused"),
        "keys twice": ('{"instances": [1], "instances": [[1]], "signature_name": "waveform"}', "refused"),
        "a hundred thousand keys": (
            json.dumps({**{str(number): 0 for number in range(100_000)}, "instances": []}),
            "refused",
        ),
    }
    for depth in (
        2,
        10,
        100,
        255,
        1000,
        5000,
    ):  # beyond 10,000 the server's parser ends it: see the proxy
        bodies[f"{depth} lists in lists"] = (waveform % ("[" * depth + "1" + "]" * depth), "refused")
        bodies[f"{depth} lists without an end"] = ("[" * depth, "refused")
        bodies[f"{depth} objects in objects"] = ('{"instances":' * depth + "1" + "}" * depth, "refused")
    for name, (body, expected) in bodies.items():
        content = body.encode() if isinstance(body, str) else body
        yield WireRequest(f"JSON: {name}", "http", PREDICT_PATH, content, expected)


def _odd_http() -> Iterator[WireRequest]:
    (good,) = [request for request in _odd_json() if request.name == "JSON: good"]
    for path in (
        "/",
        "/v1",
        "/v1/models",
        "/v1/models/nope:predict",
        "/v1/models/autotag/versions/99:predict",
        "/v1/models/autotag/versions/-1:predict",
        f"/v1/models/autotag/versions/{2**64}:predict",
        "/v1/models/autotag/labels/nope:predict",
        "/v1/models/autotag:nope",
        "/v1/models/autotag:regress",
        "/v1/models/..%2f..%2fetc/passwd:predict",
        "/v1/models/" + "x" * 4000 + ":predict",
        "/v1/models/autotag%00:predict",
    ):
        yield replace(good, name=f"path {path[:60]}", target=path, expected="refused")
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        yield replace(good, name=f"method {method}", method=method, expected="refused")
    for name, headers in {
        "gzip that is none": {"Content-Encoding": "gzip"},
        "unknown encoding": {"Content-Encoding": "nope"},
        "unknown type": {"Content-Type": "image/png"},
        "long header": {"X-Long": "x" * 4000},
    }.items():
        yield replace(good, name=f"header: {name}", headers=headers, expected="either")


def _odd_connections(seed: int) -> Iterator[WireRequest]:
    rng = np.random.default_rng([seed, 1])

    def http(length: object, body: bytes = b"", more: str = "") -> bytes:
        return f"POST {PREDICT_PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body

    chunked = f"POST {PREDICT_PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = bytes.fromhex("000000040000000000")
    sent: dict[str, tuple[str, bytes]] = {
        "nothing": ("rest", b""),
        "random bytes": ("rest", rng.bytes(500)),
        "half a request line": ("rest", b"POST /v1/mod"),
        "half a header": ("rest", http(10)[:-10]),
        "body shorter than said": ("rest", http(1_000_000, b'{"instances": [')),
        "claims 4 GB": ("rest", http(2**32, b"{}")),
        "claims 2^63": ("rest", http(2**63, b"{}")),
        "negative length": ("rest", http(-1, b"{}")),
        "length is no number": ("rest", http("abc", b"{}")),
        "two lengths": ("rest", http(2, b"{}", "Content-Length: 50\r\n")),
        "chunk of 2^60": ("rest", chunked + b"fffffffffffffff\r\n{}"),
        "chunk cut": ("rest", chunked + b"5\r\n{"),
        "chunk length is no number": ("rest", chunked + b"zz\r\n{}"),
        "header of 100,000 bytes": ("rest", http(2, b"{}", f"X: {'x' * 100_000}\r\n")),
        "ten thousand headers": ("rest", http(2, b"{}", "X: y\r\n" * 10_000)),
        "HTTP/9.9": ("rest", b"POST / HTTP/9.9\r\n\r\n"),
        "TLS": ("rest", bytes.fromhex("16030100a5010000a10303") + rng.bytes(100)),
        "HTTP/2 to REST": ("rest", preface + settings),
        "nothing to gRPC": ("grpc", b""),
        "random bytes to gRPC": ("grpc", rng.bytes(500)),
        "HTTP/1.1 to gRPC": ("grpc", http(2, b"{}")),
        "preface alone": ("grpc", preface),
        "preface and a cut frame": ("grpc", preface + settings + bytes.fromhex("00ffff0100000000")),
        "preface and a huge frame": ("grpc", preface + settings + bytes.fromhex("ffffff010400000001") + bytes(100)),
        "preface and random frames": ("grpc", preface + settings + rng.bytes(300)),
        "a thousand pings": ("grpc", preface + settings + (bytes.fromhex("000008060000000000") + bytes(8)) * 1000),
        "a thousand resets": ("grpc", preface + settings + bytes.fromhex("00000403000000000100000008") * 1000),
    }
    for name, (port, body) in sent.items():
        for cut in ("close", "reset"):
            yield WireRequest(f"connection: {name}, {cut}", "tcp", port, body, "either", cut=cut)
    for name in ("half a header", "body shorter than said", "chunk cut", "preface and a cut frame"):
        port, body = sent[name]
        yield WireRequest(f"slow client: {name}", "tcp", port, body[:60], "either", cut="drip")
