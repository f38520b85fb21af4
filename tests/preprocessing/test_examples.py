"""The example contract, and TFRecord without TensorFlow held against TensorFlow itself."""

from __future__ import annotations

import io

import numpy as np
import pytest
from audio_samples import encoded, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.loading import load_audio
from preprocessing.audio.samples import fit_clip
from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS
from preprocessing.errors import ClipError
from preprocessing.examples import (
    Example,
    clip_example,
    decode_waveform,
    encode_example,
    read_records,
    write_record,
)
from preprocessing.features import HEALTH_FEATURES, log_mel

AUDIO = encoded(tone(3.0, 22_050, 2), 22_050, "MP3")


def test_example_holds_the_contracts_features():
    features = Example.FromString(clip_example(AUDIO, "17", "a-b-01-ü", ["slow", "no vocals"])).features.feature

    assert set(features) == {"clip_id", "track", "waveform", "log_mel", "tags", *HEALTH_FEATURES}
    assert features["clip_id"].bytes_list.value[:] == [b"17"]
    assert features["track"].bytes_list.value[:] == ["a-b-01-ü".encode()]
    assert features["tags"].bytes_list.value[:] == [b"slow", b"no vocals"]
    waveform = np.frombuffer(features["waveform"].bytes_list.value[0], "<i2")
    mel = np.frombuffer(features["log_mel"].bytes_list.value[0], "<f2").reshape(N_MELS, N_FRAMES)
    samples = fit_clip(load_audio(AUDIO))
    assert waveform.shape == (CLIP_SAMPLES,)
    assert np.abs(waveform / 32_768 - samples).max() <= 0.5001 / 32_768
    assert np.abs(mel - log_mel(samples)).max() < 0.5  # float16, and what PCM rounds off in the softest bins
    seconds = features["seconds"].float_list.value[0]
    assert seconds == pytest.approx(3.0, abs=0.1)
    length = round(seconds * 16_000)
    assert np.array_equal(waveform, np.resize(waveform[:length], CLIP_SAMPLES))
    assert len(features["peak"].float_list.value) == 1


def test_mel_in_the_example_is_that_of_the_waveform_in_the_example():
    record = clip_example(AUDIO, "1", "t", [])
    stored = np.frombuffer(Example.FromString(record).features.feature["log_mel"].bytes_list.value[0], "<f2")
    assert np.array_equal(stored, log_mel(decode_waveform(record)).astype("<f2").ravel())


def test_same_clip_gives_the_same_bytes():
    assert clip_example(AUDIO, "1", "t", ["slow"]) == clip_example(AUDIO, "1", "t", ["slow"])


def test_clip_without_tags_has_an_empty_list_of_them():
    features = Example.FromString(clip_example(AUDIO, "1", "t", [])).features.feature
    assert features["tags"].bytes_list.value[:] == []


def test_silent_clip_is_an_example_that_says_it_is_silent():
    features = Example.FromString(clip_example(encoded(0 * tone(29.1)), "1", "t", [])).features.feature
    assert features["silence_share"].float_list.value[0] == 1.0


def test_unusable_audio_raises_the_clips_error():
    with pytest.raises(ClipError, match="empty"):
        clip_example(b"", "1", "t", [])


def test_order_of_features_makes_no_difference():
    assert encode_example({"a": 1.0, "b": b"x"}) == encode_example({"b": b"x", "a": 1.0})


def test_tensorflow_reads_what_is_written(tmp_path):
    tf = pytest.importorskip("tensorflow")
    records = [clip_example(AUDIO, str(number), "t", ["slow"]) for number in range(2)]
    path = tmp_path / "train-00000-of-00001.tfrecord"
    with open(path, "wb") as file:
        for record in records:
            write_record(file, record)

    read = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert read == records
    example = tf.train.Example.FromString(read[1])
    assert example.features.feature["clip_id"].bytes_list.value[0] == b"1"
    assert example.SerializeToString(deterministic=True) == records[1]
    parsed = tf.io.parse_single_example(
        read[0],
        {
            "log_mel": tf.io.FixedLenFeature([], tf.string),
            "tags": tf.io.VarLenFeature(tf.string),
            **{name: tf.io.FixedLenFeature([], tf.float32) for name in HEALTH_FEATURES},
        },
    )
    assert tf.io.decode_raw(parsed["log_mel"], tf.float16).shape == (N_MELS * N_FRAMES,)
    assert parsed["tags"].values.numpy().tolist() == [b"slow"]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5), st.data())
def test_records_are_read_back_and_damage_is_noticed(records, data):
    file = io.BytesIO()
    for record in records:
        write_record(file, record)
    written = bytearray(file.getvalue())
    assert list(read_records(io.BytesIO(written))) == records
    if written:
        at = data.draw(st.integers(0, len(written) - 1))
        written[at] ^= 0x10
        with pytest.raises(ValueError, match="broken TFRecord"):
            list(read_records(io.BytesIO(written)))


def test_cut_file_is_noticed():
    file = io.BytesIO()
    write_record(file, b"abc")
    for cut in (3, 13, 17):
        with pytest.raises(ValueError, match="broken TFRecord"):
            list(read_records(io.BytesIO(file.getvalue()[:cut])))
