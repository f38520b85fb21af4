"""What was sent in place of PCM, told by its content: containers, MPEG frames, text, floating-point samples.

Any bytes of even length are lawful PCM, so a kind counts as found only where lawful sound could not look so: each test
below asks for 40 bits or more of one clip's first bytes, or for a property that holds over hundreds of samples.
tests/serving/graph/test_content_checks.py measures it on sounds, noise and periodic signals.

- Containers: their magic numbers with the fixed bytes around them.
- MP3 and AAC without a container: six frame headers, each where the one before says, alike in version, layer and
  sample rate, round contents that differ (the first guards against one chance hit, the last against periodic signals,
  which repeat a hit). Layer I is left out: its header is a sample of -1 and a bit more.
- Text: nothing but printable characters, five of them at least (a constant has two), or the letter A alone, which is
  base64 of silence. As samples they are all positive and above 8,192.
- float32 and float64: read as such, nine in ten values lie between 2^-24 and 1, of both signs and several exponents. As
  int16, the same bytes alternate between numbers from 13,184 to 16,256 and from -19,584 to -16,512, which no wave with
  equal halves does, and no square wave for its few values.

Not told: 8, 24 or 32-bit integers, big-endian samples, other sample rates and channels side by side. They are sound as
well, and a loud mastered song looks like them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Final, TypeAlias

import tensorflow as tf

from preprocessing.clip_format import ClipFormat
from serving.graph.tensors import BoolTensor, IntTensor, StringTensor

HEADER_BYTES: Final = 64
LEAST_TEXT: Final = 32
"""Bytes: shorter ones are too few samples to be told from text."""
TEXT_BYTES: Final = 4096
"""Looked at where a clip begins and where it ends."""
SYNC: Final = 0xFF
FRAMES: Final = 6
FRAME_CONTENT: Final = 32
"""Bytes of each of two frames that are compared."""
PIECES: Final = 8
PIECE_BYTES: Final = 2048
"""Looked at for floating-point samples, evenly over a clip."""
LEAST_FLOATS: Final = 64
"""Values other than 0 in these pieces."""
FLOAT_SHARE: Final = 0.9
LEAST_EXPONENTS: Final = 4
"""A sine has 16, a square wave two: sign and exponent together."""
EXPONENT_SHARE: Final = 0.02
"""Of the values, at least so many have an exponent that counts."""
LEAST_CHARACTERS: Final = 5
SILENCE: Final = ord("A")

BASE64: Final = r"[A-Za-z0-9+/=_\s-]+"
TEXT: Final = r"[\x20-\x7e\s]+"

MPEG_KILOBITS: Final = {
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(MPEG 1 or 2, layer) -> kbit/s of the bit rate's index 1 to 14; ISO 11172-3 and 13818-3. 2.5 is as 2."""
MPEG_RATES: Final = (44_100, 48_000, 32_000)

Mask = tuple[int, bytes]
"""Position, and the bytes that stand there."""

WAV_CURE: Final = "send it whole as signature wav, or its samples alone"
CONTAINERS: Final[tuple[tuple[str, tuple[Mask, ...]], ...]] = (
    ("a RIFF file (WAV)", ((0, b"RIFF"), (8, b"WAVE"))),
    ("a RIFF file (WAV)", ((0, b"RF64"), (8, b"WAVE"))),
    ("a RIFF file (WAV)", ((0, b"RIFX"), (8, b"WAVE"))),
    ("an Ogg file", ((0, b"OggS\0"),)),
    ("a FLAC file", ((0, b"fLaC"), (5, b"\0\0\x22"))),
    ("an MP4 file", ((0, b"\0\0"), (4, b"ftyp"))),
    ("an AIFF file", ((0, b"FORM"), (8, b"AIF"))),
    ("an AU file", ((0, b".snd\0\0"),)),
    ("a CAF file", ((0, b"caff\0\1"),)),
    ("a WMA file", ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),)),
    ("a WavPack file", ((0, b"wvpk"), (9, b"\4"))),
    ("a Monkey's Audio file", ((0, b"MAC "), (5, b"\x0f"))),
    ("an APE tag", ((0, b"APETAGEX"),)),
    ("an AMR file", ((0, b"#!AMR"),)),
    ("a NumPy file", ((0, b"\x93NUMPY"),)),
)


ContentCheck: TypeAlias = "Callable[[StringTensor], tuple[BoolTensor, StringTensor]]"


@functools.cache
def content_check(clip: ClipFormat) -> ContentCheck:
    """Return ``other_content`` as one function of a graph, so that the signatures that call it share it."""
    check: ContentCheck = tf.function(
        lambda clips: other_content(clips, clip), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    return check


def other_content(clips: StringTensor, clip: ClipFormat) -> tuple[BoolTensor, StringTensor]:
    """Find clips that are something else than PCM.

    Args:
        clips: string [n].
        clip: what they should be.

    Returns:
        Bool [n], and what each is and what to do about it, string [n]; "" where it may be PCM.
    """
    decode = f"decode it to {clip.sample_rate} Hz mono int16 first"
    begins = tf.strings.substr(clips, 0, HEADER_BYTES)
    header = tf.cast(tf.io.decode_raw(begins, tf.uint8, fixed_length=HEADER_BYTES), tf.int32)
    is_mp3 = tf.logical_or(_has_id3(header), _has_frames(clips, _mpeg_frame))
    found = [
        ("begins as an MP3: " + decode, is_mp3),
        ("begins as AAC (ADTS): " + decode, _has_frames(clips, _adts_frame)),
        ("begins as a Matroska or WebM file: " + decode, _has_ebml(header)),
    ]
    for name, masks in CONTAINERS:
        cure = WAV_CURE if "WAV" in name.split()[-1] else decode
        found.append((f"begins as {name}: {cure}", _matches(header, masks)))
    # No quotation marks: TensorFlow's words would show them with backslashes.
    base64_words = "looks like base64 text: {b64: ...} was forgotten, or base64 was applied twice; send the bytes"
    is_text = tf.logical_and(_is_made_of(clips, TEXT), _has_characters(header))
    found += [
        (base64_words, tf.logical_and(is_text, _is_made_of(clips, BASE64))),
        ("is text (JSON? an error page?): send the samples' bytes", is_text),
        ("looks like float32 samples: multiply by 32768, round, clip and send them as int16", _are_floats(clips, 4)),
        ("looks like float64 samples: multiply by 32768, round, clip and send them as int16", _are_floats(clips, 8)),
    ]
    columns = tf.stack([is_it for _, is_it in found], axis=1)
    any_found = tf.reduce_any(columns, axis=1)
    first = tf.argmax(tf.cast(columns, tf.int32), axis=1)
    words = tf.gather(tf.constant([words for words, _ in found]), first)
    return any_found, tf.where(any_found, words, tf.zeros_like(words))


def _matches(header: IntTensor, masks: tuple[Mask, ...]) -> BoolTensor:
    """Int32 [n, bytes] -> bool [n]."""
    parts = [
        tf.reduce_all(tf.equal(header[:, position : position + len(word)], list(word)), axis=1)
        for position, word in masks
    ]
    return tf.reduce_all(tf.stack(parts, axis=1), axis=1)


def _has_id3(header: IntTensor) -> BoolTensor:
    """ID3v2.2 to 2.4: revision 0, unused flags and the top bits of the size 0."""
    version = tf.logical_and(header[:, 3] >= 2, header[:, 3] <= 4)
    zeros = tf.logical_and(tf.equal(header[:, 4], 0), tf.equal(tf.bitwise.bitwise_and(header[:, 5], 0x0F), 0))
    size = tf.reduce_all(header[:, 6:10] < 0x80, axis=1)
    return tf.reduce_all(tf.stack([_matches(header, ((0, b"ID3"),)), version, zeros, size], axis=1), axis=1)


def _has_ebml(header: IntTensor) -> BoolTensor:
    """EBML with the element DocType (0x4282) in its header."""
    doc_type = tf.logical_and(tf.equal(header[:, 4:-1], 0x42), tf.equal(header[:, 5:], 0x82))
    return tf.logical_and(_matches(header, ((0, b"\x1a\x45\xdf\xa3"),)), tf.reduce_any(doc_type, axis=1))


FrameReader: TypeAlias = "Callable[[IntTensor], tuple[IntTensor, IntTensor]]"
"""Int32 [n, 8], bytes of headers -> length in bytes (0: no header) and what is alike in all frames, both int32 [n]."""


def _has_frames(clips: StringTensor, read: FrameReader) -> BoolTensor:
    """String [n] -> bool [n]: FRAMES headers one after another, round contents that differ."""
    lengths = tf.strings.length(clips)
    position, good, first_kind, contents = tf.zeros_like(lengths), tf.ones_like(lengths, tf.bool), None, []
    for _ in range(FRAMES):
        head = tf.strings.substr(clips, tf.minimum(position, lengths), tf.fill(tf.shape(lengths), 8))
        head = tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=8), tf.int32)
        frame, kind = read(head)
        first_kind = kind if first_kind is None else first_kind
        alike = tf.logical_and(tf.equal(head[:, 0], SYNC), tf.equal(kind, first_kind))
        good = tf.reduce_all(tf.stack([good, frame > 0, alike], axis=1), axis=1)
        after = tf.minimum(position + 8, lengths)
        contents.append(tf.strings.substr(clips, after, tf.fill(tf.shape(lengths), FRAME_CONTENT)))
        position = tf.where(good, position + frame, lengths)
    return tf.logical_and(good, tf.not_equal(contents[1], contents[2]))


def _frame_table() -> list[int]:
    """Bytes of a frame without padding by version, layer, bit rate and sample rate as a header has them; 0: none."""
    table = []
    for version, layer, kilobits, rate in itertools.product(range(4), range(4), range(16), range(4)):
        generation, number = {3: 1, 2: 2, 0: 2}.get(version), {1: 3, 2: 2}.get(layer)
        if generation is None or number is None or not 0 < kilobits < 15 or rate == 3:
            table.append(0)
            continue
        hertz = MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
        samples = 576 if (generation, number) == (2, 3) else 1152
        table.append(samples // 8 * 1000 * MPEG_KILOBITS[generation, number][kilobits - 1] // hertz)
    return table


def _mpeg_frame(head: IntTensor) -> tuple[IntTensor, IntTensor]:
    second, third = head[:, 1], head[:, 2]
    index = (second // 8 % 4) * 256 + (second // 2 % 4) * 64 + (third // 16) * 4 + third // 4 % 4
    length = tf.gather(tf.constant(_frame_table()), index)
    length = tf.where(length > 0, length + third // 2 % 2, 0)
    return tf.where(second >= 0xE0, length, 0), second // 2 * 4 + third // 4 % 4


def _adts_frame(head: IntTensor) -> tuple[IntTensor, IntTensor]:
    second, third = head[:, 1], head[:, 2]
    length = head[:, 3] % 4 * 2048 + head[:, 4] * 8 + head[:, 5] // 32
    is_header = tf.logical_and(tf.equal(tf.bitwise.bitwise_and(second, 0xF6), 0xF0), third // 4 % 16 < 13)
    return tf.where(tf.logical_and(is_header, length > 8), length, 0), (second * 256 + third) * 4 + head[:, 3] // 64


def _is_made_of(clips: StringTensor, characters: str) -> BoolTensor:
    """String [n] -> bool [n]: long enough, and nothing else where it begins and ends."""
    lengths = tf.strings.length(clips)
    begins = tf.strings.regex_full_match(tf.strings.substr(clips, 0, TEXT_BYTES), characters)
    last = tf.maximum(lengths - TEXT_BYTES, 0)
    ends = tf.strings.regex_full_match(
        tf.strings.substr(clips, last, tf.fill(tf.shape(lengths), TEXT_BYTES)), characters
    )
    return tf.reduce_all(tf.stack([lengths >= LEAST_TEXT, begins, ends], axis=1), axis=1)


def _has_characters(header: IntTensor) -> BoolTensor:
    """Int32 [n, bytes] -> bool [n]: several ones, or base64 of silence."""
    ordered = tf.sort(header, axis=1)
    changes = tf.reduce_sum(tf.cast(tf.not_equal(ordered[:, 1:], ordered[:, :-1]), tf.int32), axis=1)
    silence = tf.reduce_all(tf.equal(header[:, :LEAST_TEXT], SILENCE), axis=1)
    return tf.logical_or(changes >= LEAST_CHARACTERS - 1, silence)


def _are_floats(clips: StringTensor, size: int) -> BoolTensor:
    """String [n] -> bool [n]: samples of ``size`` bytes, IEEE 754, of which nearly all lie in [-1, 1]."""
    lengths = tf.strings.length(clips)
    step = tf.maximum(lengths - PIECE_BYTES, 0) // (PIECES - 1) // 8 * 8
    pieces = [
        tf.io.decode_raw(
            tf.strings.substr(clips, number * step, tf.fill(tf.shape(lengths), PIECE_BYTES)),
            tf.uint16,
            fixed_length=PIECE_BYTES,
        )
        for number in range(PIECES)
    ]
    words = tf.cast(tf.reshape(tf.concat(pieces, axis=1), [-1, PIECES * PIECE_BYTES // size, size // 2]), tf.int32)
    top = words[:, :, -1]
    magnitude = top % 0x8000
    least, most, step_of_exponent = (0x3380, 0x3F80, 0x80) if size == 4 else (0x3E70, 0x3FF0, 0x10)
    usual = tf.cast(tf.logical_and(magnitude >= least, magnitude <= most), tf.float32)
    not_zero = tf.cast(tf.reduce_any(tf.not_equal(words, 0), axis=2), tf.float32)
    values, in_range = tf.reduce_sum(not_zero, axis=1), tf.reduce_sum(usual, axis=1)
    kinds = 0x10000 // step_of_exponent
    counts = tf.math.bincount(
        top // step_of_exponent, weights=usual, axis=-1, minlength=kinds, maxlength=kinds, dtype=tf.float32
    )
    often = tf.cast(counts >= EXPONENT_SHARE * values[:, tf.newaxis], tf.int32) * tf.cast(counts > 0, tf.int32)
    below = tf.reduce_sum(often[:, kinds // 2 :], axis=1)
    above = tf.reduce_sum(often[:, : kinds // 2], axis=1)
    signs = [
        values >= LEAST_FLOATS,
        in_range >= FLOAT_SHARE * values,
        below + above >= LEAST_EXPONENTS,
        below > 0,
        above > 0,
    ]
    whole = tf.equal(lengths % size, 0)
    return tf.reduce_all(tf.stack([whole, *signs], axis=1), axis=1)
