from __future__ import annotations

import shutil
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import keras
import librosa
import numpy as np
import numpy.typing as npt
import pytest
from musicnn_wheel_file import find_wheel

from models.registry import find_network
from preprocessing.audio.loading import load_audio
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import BadInputError
from serving.pretrained.convert import load_weights
from serving.pretrained.musicnn_wheel import NETWORK_OF, assign
from serving.pretrained.tf1_checkpoint import checkpoints_in, read_checkpoint

CLIP = Path(__file__).parents[4] / "shared" / "mtat" / "audio" / "joram-moments_of_clarity-08-solipsism-59-88.mp3"

MTT = (
    "guitar classical slow techno strings drums electronic rock fast piano ambient beat violin vocal synth female "
    "indian opera male singing vocals no_vocals harpsichord loud quiet flute woman male_vocal no_vocal pop"
).split()
MSD = (
    "rock pop alternative indie electronic female_vocalists dance 00s alternative_rock jazz beautiful metal chillout "
    "male_vocalists classic_rock soul indie_rock Mellow electronica 80s folk 90s chill instrumental punk oldies blues "
    "hard_rock ambient"
).split()
"""The first of each set's 50 tags, in the order of its outputs."""

STATED = {
    "MTT_musicnn": {
        "techno": 0.5855,
        "electronic": 0.5408,
        "synth": 0.4187,
        "fast": 0.2723,
        "beat": 0.2129,
        "drums": 0.1200,
        "no_vocals": 0.0954,
        "no_vocal": 0.0799,
        "ambient": 0.0598,
    },
    "MTT_vgg": {"techno": 0.6484, "electronic": 0.5277, "fast": 0.3952, "synth": 0.3803},
    "MSD_musicnn": {"electronic": 0.2939, "instrumental": 0.1464, "ambient": 0.1246, "chillout": 0.1232},
    "MSD_vgg": {"instrumental": 0.1984, "electronic": 0.1914, "jazz": 0.1393},
}
"""Means over the clip's patches: the package's own graphs in a session of TensorFlow 1, log-mel by librosa 0.10.2."""

ROUNDING = 0.5e-4
"""Of what is stated."""

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def wheel() -> Path:
    return find_wheel()


@cache
def windows_of_the_clip() -> Array:
    """Log-mel [windows, 96, 187] of the MTAT clip: musicnn and vgg hear the same."""
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not there")
    network = find_network("musicnn")
    lead = network.score_windows.lead
    samples = np.pad(load_audio(CLIP.read_bytes()), lead)
    starts = network.score_windows.starts(len(samples) - 2 * lead, network.window_samples)
    assert len(starts) == 9
    windows = np.stack([samples[lead + start :][: network.window_samples] for start in starts])
    log_mel: Array = keras.ops.convert_to_numpy(network.front_end.layer()(windows))
    return log_mel


def test_windows_are_the_patches_that_the_package_cuts_from_a_song_s_spectrogram() -> None:
    network, clip = find_network("musicnn"), PAPER_CLIP.samples
    lead = network.score_windows.lead
    starts = network.score_windows.starts(clip, network.window_samples)
    samples = 0.1 * np.random.default_rng(0).standard_normal(clip).astype(np.float32)
    padded = np.pad(samples, lead)
    windows = np.stack([padded[lead + start :][: network.window_samples] for start in starts])
    mel = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="constant"
    )
    patches = [mel[:, first : first + 187] for first in range(0, mel.shape[1] - 186, 187)]
    assert len(starts) == len(patches) == 9
    log_mel = keras.ops.convert_to_numpy(network.front_end.layer()(windows))
    np.testing.assert_allclose(log_mel, np.log10(1 + 10_000 * np.stack(patches)), atol=1e-4)


@pytest.mark.parametrize("name", NETWORK_OF)
def test_answers_for_the_real_clip_are_those_of_the_package_s_own_graph(wheel: Path, name: str) -> None:
    model = load_weights(find_network(NETWORK_OF[name]), wheel, 50, name)
    answers = keras.ops.convert_to_numpy(keras.ops.sigmoid(model(windows_of_the_clip(), training=False))).mean(axis=0)
    tags = MTT if name.startswith("MTT") else MSD
    got = {tag: float(answers[tags.index(tag)]) for tag in STATED[name]}
    assert got == pytest.approx(STATED[name], abs=1e-4 + ROUNDING)


def test_wheel_holds_four_checkpoints_and_they_have_no_array_of_the_optimizer(wheel: Path) -> None:
    assert checkpoints_in(wheel) == sorted(NETWORK_OF)
    arrays = read_checkpoint(wheel, "MTT_musicnn")
    assert sum(array.size for array in arrays.values()) == find_network("musicnn").parameters
    assert not [name for name in arrays if "Adam" in name or "power" in name]


def test_weights_of_the_million_song_vgg_are_refused_for_the_other_pools(wheel: Path) -> None:
    with pytest.raises(BadInputError, match="MSD_vgg holds weights of vgg_msd, not of vgg"):
        load_weights(find_network("vgg"), wheel, 50, "MSD_vgg")


def test_wheel_without_a_name_is_refused_with_the_names_that_there_are(wheel: Path) -> None:
    with pytest.raises(BadInputError, match=r"which checkpoint\? It holds MSD_musicnn, MSD_vgg, MTT_musicnn, MTT_vgg"):
        load_weights(find_network("musicnn"), wheel, 50)


def test_weights_for_another_number_of_tags_are_refused(wheel: Path) -> None:
    with pytest.raises(BadInputError, match=r"logits/bias is \[50\], expected \[10\]"):
        load_weights(find_network("musicnn"), wheel, 10, "MTT_musicnn")


def test_array_that_is_missing_or_left_over_is_named(wheel: Path) -> None:
    model = find_network("vgg").build()
    arrays = read_checkpoint(wheel, "MTT_vgg")
    bias = arrays.pop("1CNN/bias")
    with pytest.raises(BadInputError, match="the weights are not those of vgg: conv_1/bias is missing$"):
        assign(model, arrays)
    with pytest.raises(BadInputError, match="6CNN/bias is left over$"):
        assign(model, {**arrays, "1CNN/bias": bias, "6CNN/bias": bias})
    with pytest.raises(BadInputError, match="conv_1/bias has values that are not finite"):
        assign(model, {**arrays, "1CNN/bias": np.full_like(bias, np.nan)})


@pytest.mark.parametrize("path", ["", "MTT_vgg"])
def test_unpacked_checkpoint_is_read_by_folder(wheel: Path, tmp_path: Path, path: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in ("", ".data-00000-of-00001"):
            member = f"musicnn/MTT_vgg/{name or '.index'}"
            (tmp_path / "MTT_vgg").mkdir(exist_ok=True)
            (tmp_path / "MTT_vgg" / (name or ".index")).write_bytes(archive.read(member))
    arrays: dict[str, Any] = read_checkpoint(tmp_path / path)
    assert arrays["1CNN/kernel"].shape == (3, 3, 1, 128)


def test_checkpoint_is_read_by_prefix(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in (".index", ".data-00000-of-00001"):
            (tmp_path / f"best{name}").write_bytes(archive.read(f"musicnn/MTT_vgg/{name}"))
    assert read_checkpoint(tmp_path / "best")["dense/bias"].shape == (50,)


def test_damaged_checkpoint_is_refused_in_one_line(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (tmp_path / "cut.index").write_bytes(archive.read("musicnn/MTT_vgg/.index")[:-40])
        (tmp_path / "cut.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(BadInputError, match="no whole checkpoint of TensorFlow 1") as caught:
        read_checkpoint(tmp_path / "cut")
    assert "\n" not in str(caught.value)
    shutil.copy(tmp_path / "cut.index", tmp_path / "whole.index")
    with zipfile.ZipFile(wheel) as archive:
        (tmp_path / "whole.index").write_bytes(archive.read("musicnn/MTT_vgg/.index"))
    with pytest.raises(BadInputError, match="no whole checkpoint of TensorFlow 1"):
        read_checkpoint(tmp_path / "whole")
