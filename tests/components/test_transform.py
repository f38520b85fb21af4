"""Transform's preprocessing_fn, analysed by Beam on a few short clips: vocabularies, statistics, labels, log-mel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small_splits import CLIP, SmallClip, analyse

from components.labels import ANY, HeadSettings, read_settings
from components.reader import log_mel_dataset, transform_facts
from components.transform import _labels, decode_log_mel, decode_pcm
from models.front_ends.settings import STORED_LOG_MEL
from models.heads import ONE_OF
from models.hearing import Hearing
from preprocessing.audio.samples import from_pcm, to_pcm
from preprocessing.examples import write_record
from preprocessing.features import log_mel

HEADS = (
    HeadSettings("tempo", ONE_OF, tags=("slow", "fast")),
    HeadSettings("genre", top=2, prefix="genre---"),
    HeadSettings("tags", top=3, others=("slow", "fast", f"genre---{ANY}")),
)
TRAIN = [
    SmallClip("1a", 200, ("guitar", "slow", "genre---rock")),
    SmallClip("1b", 300, ("guitar", "piano", "genre---rock")),
    SmallClip("2", 400, ("guitar", "piano", "drums", "genre---jazz", "fast")),
    SmallClip("3", 500, ("drums", "piano", "guitar", "genre---jazz")),
    SmallClip("4", 600, ("drums", "genre---rock", "genre---polka", "sitar")),
    SmallClip("5", 700, ()),
]
VALID = [
    SmallClip("6", 800, ("sitar", "sitar", "flute", "genre---polka", "fast")),
    SmallClip("7a", 900, ("piano", "piano", "slow", "drums")),
    *(SmallClip(f"more-{number}", 1000 + number, ("flute",)) for number in range(6)),
]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The transform graph and what it makes of both splits."""
    folder = tmp_path_factory.mktemp("transform")
    return folder, analyse(folder, HEADS, {"train": TRAIN, "valid": VALID})


def test_vocabularies_are_the_training_splits_most_frequent_tags_of_each_head(learnt: tuple[Path, Any]) -> None:
    facts = transform_facts(str(learnt[0]), HEADS)
    assert facts.tags[:2] == ("slow", "fast")
    assert facts.tags[2] == "genre---rock"
    assert facts.tags[3] == "genre---jazz"
    assert facts.tags[4] == "guitar"
    assert set(facts.tags[5:]) == {"piano", "drums"}, "flute is in the validation split alone, sitar is too seldom"


def test_labels_stand_in_the_heads_order_and_a_tag_that_is_there_twice_counts_once(learnt: tuple[Path, Any]) -> None:
    folder, splits = learnt
    tags = transform_facts(str(folder), HEADS).tags
    for split, clips in (("train", TRAIN), ("valid", VALID)):
        for clip in clips:
            labels = splits[split][clip.clip_id]["labels"]
            assert labels.dtype == np.float32
            assert {tag for tag, label in zip(tags, labels, strict=True) if label} == {*clip.tags} & {*tags}
            assert set(labels.tolist()) <= {0.0, 1.0}


def test_statistics_are_those_of_all_values_of_the_training_split(learnt: tuple[Path, Any]) -> None:
    waveforms = np.concatenate([clip.waveform().astype("f8") for clip in TRAIN])
    mels = np.concatenate([log_mel(clip.waveform(), CLIP).ravel().astype("f8") for clip in TRAIN])
    facts = transform_facts(str(learnt[0]), HEADS)
    assert facts.waveform.mean == pytest.approx(waveforms.mean(), abs=1e-7)
    assert facts.waveform.std == pytest.approx(waveforms.std(), rel=1e-5)
    assert facts.log_mel.mean == pytest.approx(mels.mean(), rel=1e-4)
    assert facts.log_mel.std == pytest.approx(mels.std(), rel=1e-3)
    others = np.concatenate([log_mel(clip.waveform(), CLIP).ravel() for clip in VALID])
    assert abs(others.mean() - facts.log_mel.mean) > 0.01, "the validation split has others, and they do not count"


def test_log_mel_at_one_level_is_that_of_the_levelled_waveform(learnt: tuple[Path, Any], tmp_path: Path) -> None:
    """Of the stored one and a gain, as a network that hears clips at one level computes it from the waveform."""
    folder, splits = learnt
    facts = transform_facts(str(folder), HEADS)
    hearing = Hearing(CLIP, CLIP.samples, (0,), CLIP.sample_rate, CLIP.samples, STORED_LOG_MEL, "rms")
    front = hearing.front()
    heard = {clip.clip_id: np.asarray(front(clip.waveform()[None]))[0] for clip in (*TRAIN, *VALID)}
    of_training = np.concatenate([heard[clip.clip_id].ravel().astype("f8") for clip in TRAIN])
    assert facts.levelled_log_mel.mean == pytest.approx(of_training.mean(), abs=0.05)
    assert facts.levelled_log_mel.std == pytest.approx(of_training.std(), rel=2e-3)
    path = tmp_path / "part.tfrecord"
    with path.open("wb") as file:
        for clip_id, row in splits["valid"].items():
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in (
                    ("normalised_log_mel", row["normalised_log_mel"]),
                    ("track", row["track"]),
                    ("clip_id", clip_id.encode()),
                )
            }
            for name, values in (("gain_to_level_db", [row["gain_to_level_db"]]), ("labels", row["labels"])):
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            write_record(file, example.SerializeToString())
    to_level = (facts.log_mel, facts.levelled_log_mel)
    (batch,) = log_mel_dataset([str(path)], facts.heads.size, 16, clip=CLIP, to_level=to_level)
    for clip_id, inputs in zip(batch["clip_id"].numpy(), batch["inputs"].numpy(), strict=True):
        expected = (heard[clip_id.decode()] - facts.levelled_log_mel.mean) / facts.levelled_log_mel.std
        np.testing.assert_allclose(inputs, expected, atol=0.02)
    gains = {clip_id: row["gain_to_level_db"] for clip_id, row in splits["valid"].items()}
    assert max(gains.values()) - min(gains.values()) > 1, "the clips differ in level"


def test_log_mel_is_normalised_by_them_in_every_split(learnt: tuple[Path, Any]) -> None:
    folder, splits = learnt
    facts = transform_facts(str(folder), HEADS)
    for split, clips in (("train", TRAIN), ("valid", VALID)):
        for clip in clips:
            row = splits[split][clip.clip_id]
            values = tf.io.parse_tensor(row["normalised_log_mel"], tf.float16).numpy()
            stored = log_mel(clip.waveform(), CLIP).astype("f2").astype("f4")
            np.testing.assert_allclose(values, (stored - facts.log_mel.mean) / facts.log_mel.std, atol=3e-3)
            assert row["track"] == clip.track.encode()
            assert row["log_mel_mean"] == pytest.approx(facts.log_mel.mean)


def test_more_tags_than_the_training_split_has_are_refused_with_the_setting(learnt: tuple[Path, Any]) -> None:
    more = (*HEADS[:2], HeadSettings("tags", top=9))
    with pytest.raises(ValueError, match=r"has 3 tags for the head 'tags' and 9 .*: set data.heads.tags.top lower"):
        transform_facts(str(learnt[0]), more)


NAMES = st.sampled_from(["slow", "fast", "männer", "no vocals", "genre---rock", ""])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(NAMES, max_size=5), min_size=1, max_size=4), st.lists(NAMES, min_size=1, unique=True))
def test_labels_of_a_list_of_tags_say_which_a_clip_has(clips: list[list[str]], tags: list[str]) -> None:
    (head,) = read_settings([HeadSettings("h", tags=tuple(tags)).to_json()])
    sparse = tf.RaggedTensor.from_row_lengths(
        tf.constant([tag for clip in clips for tag in clip], tf.string), [len(clip) for clip in clips]
    ).to_sparse()
    labels = _labels(sparse, head).numpy()
    assert labels.tolist() == [[float(tag in clip) for tag in tags] for clip in clips]


def test_stored_bytes_are_read_as_they_were_written() -> None:
    samples = SmallClip("x", 440, ()).waveform()
    read = decode_pcm(tf.constant([to_pcm(samples).tobytes()] * 2), CLIP.samples).numpy()
    np.testing.assert_array_equal(read, [from_pcm(to_pcm(samples))] * 2)
    mel = log_mel(samples, CLIP).astype("<f2")
    np.testing.assert_array_equal(decode_log_mel(tf.constant([mel.tobytes()]), CLIP).numpy(), [mel])
