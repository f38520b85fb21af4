from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.liu_yang import N_FFTS
from models.registry import find_network
from preprocessing.audio.loading import load_clip
from preprocessing.audio.samples import fit_clip
from preprocessing.errors import BadInputError
from serving.pretrained.convert import load_weights
from serving.pretrained.liu_yang_npz import assign, read_liu_yang

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "liu_yang"
FILE = WEIGHTS / "model.npz"
CLIP = SHARED / "mtat" / "audio" / "joram-moments_of_clarity-08-solipsism-59-88.mp3"
TOP_50 = SHARED / "mtat" / "top50_tag_counts.csv"


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    if not FILE.is_file():
        pytest.skip(f"{FILE} is not there")
    return load_weights(find_network("liu_yang"), FILE, 188)


@pytest.fixture(scope="module")
def log_mels() -> Any:
    """[1, 6, 128, 910] of the real clip, which is annotated techno alone of the 50 most frequent tags."""
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not there")
    clip = fit_clip(load_clip(CLIP.read_bytes())[0])[None]
    front_end = find_network("liu_yang").front_end
    assert front_end is not None
    return front_end.layer()(clip)


def test_real_clip_is_heard_as_it_is_annotated(trained: keras.Model, log_mels: Any) -> None:
    tags = (WEIGHTS / "tags_188.txt").read_text().splitlines()
    logits = keras.ops.convert_to_numpy(trained(log_mels, training=False))[0]
    assert {tags[place] for place in np.argsort(-logits)[:3]} == {"electronic", "synth", "techno"}
    with TOP_50.open() as file:
        frequent = [row["tag"] for row in csv.DictReader(file)]
    auc = roc_auc_score([tag == "techno" for tag in frequent], [logits[tags.index(tag)] for tag in frequent])
    assert auc > 0.95


def test_answer_is_the_logit_of_the_mean_over_time(trained: keras.Model, log_mels: Any) -> None:
    by_time = keras.Model(trained.input, trained.get_layer("logits").output)
    frames, clip = by_time(log_mels, training=False), trained(log_mels, training=False)
    assert frames.shape == (1, 57, 188)
    mean = keras.ops.convert_to_numpy(keras.ops.sigmoid(frames)).mean(axis=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.sigmoid(clip)), mean, atol=1e-6)


def test_kernel_is_turned_as_theano_turned_it(trained: keras.Model) -> None:
    kernel = read_liu_yang(FILE)["arr_0"]
    ours = keras.ops.convert_to_numpy(trained.get_layer("scale_512_1_conv").kernel)
    assert ours.shape == (8, 128, 32)
    assert ours[0, 5, 3] == kernel[3, 0, -1, -1 - 5]


def test_published_layout_has_the_standardisers_in_folders_of_their_own(trained: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.npz").write_bytes(FILE.read_bytes())
    for n_fft in N_FFTS:
        folder = tmp_path / "standardizers" / f"logmelspec10000.16000_{n_fft}_512_128.0"
        folder.mkdir(parents=True)
        for what in ("mean", "std"):
            (folder / f"{what}.npy").write_bytes((WEIGHTS / f"{what}_{n_fft}.npy").read_bytes())
    there, here = read_liu_yang(tmp_path / "models" / "model.npz"), read_liu_yang(FILE)
    assert there.keys() == here.keys()
    np.testing.assert_array_equal(there["std_2048"], here["std_2048"])


def test_standardiser_that_is_missing_is_named(trained: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(FILE.read_bytes())
    with pytest.raises(BadInputError, match=r"cannot be read: .*mean_512\.npy"):
        load_weights(find_network("liu_yang"), tmp_path / "model.npz", 188)


def test_array_that_is_left_over_is_named(trained: keras.Model) -> None:
    arrays = read_liu_yang(FILE)
    with pytest.raises(BadInputError, match="the weights are not those of liu_yang: arr_31 is left over$"):
        assign(trained, {**arrays, "arr_31": np.zeros(3)})


def test_damaged_file_is_read_or_refused_and_nothing_else(trained: keras.Model, tmp_path: Path) -> None:
    """Places near the end are the zip's directory, whose versions and flags zipfile has errors of its own for."""
    path, whole, chance = tmp_path / "model.npz", FILE.read_bytes(), random.Random(0)
    for n_fft in N_FFTS:
        for what in ("mean", "std"):
            (tmp_path / f"{what}_{n_fft}.npy").symlink_to(WEIGHTS / f"{what}_{n_fft}.npy")
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(16):
            damaged[chance.choice((chance.randrange(4096), -1 - chance.randrange(4096)))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read_liu_yang(path)
        except BadInputError:
            refused += 1
    assert refused > 30
