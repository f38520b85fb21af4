from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from models.registry import find_network
from preprocessing.errors import BadInputError
from serving.pretrained.choi_hdf5 import assign, read_keras_1
from serving.pretrained.convert import load_weights

WEIGHTS = Path(__file__).parents[4] / "shared" / "weights" / "choi"
FILE = WEIGHTS / "music_tagger_crnn.h5"

TAGS = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,chillout,"
    "male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,punk,oldies,blues,"
    "hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,country,easy listening,sexy,"
    "catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,House,happy"
).split(",")

PRINTED = {
    "cute": "jazz .444, instrumental .151, folk .103, Hip-Hop .103, ambient .077, guitar .068, rock .058, acoustic .054"
    ", experimental .051, electronic .042",
    "actionable": "jazz .416, instrumental .181, Hip-Hop .085, folk .085, rock .081, ambient .068, guitar .062, "
    "Progressive rock .048, experimental .046, acoustic .046",
    "dubstep": "Hip-Hop .245, rock .183, alternative .081, electronic .076, alternative rock .053, metal .051, "
    "indie .028, instrumental .027, electronica .024, hard rock .023",
    "thejazzpiano": "jazz .299, instrumental .174, electronic .089, ambient .061, chillout .052, rock .044, guitar .044"
    ", funk .033, chill .032, Progressive rock .029",
}
"""The ten largest answers that the README of music-auto_tagging-keras prints for each of its four inputs."""


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    if not FILE.is_file():
        pytest.skip(f"{FILE} is not there")
    return load_weights(find_network("crnn_2017"), FILE, 50)


@pytest.mark.parametrize("name", PRINTED)
def test_answers_are_those_that_the_readme_prints(trained: keras.Model, name: str) -> None:
    log_mel = np.load(WEIGHTS / f"mel_{name}.npy")[0]
    answers = keras.ops.convert_to_numpy(keras.ops.sigmoid(trained(log_mel, training=False)))[0]
    loudest = sorted(range(50), key=lambda tag: -answers[tag])[:10]
    expected = dict(entry.rsplit(" ", 1) for entry in PRINTED[name].split(", "))
    assert {TAGS[tag]: f"{answers[tag]:.3f}".removeprefix("0") for tag in loudest} == expected


def test_part_of_a_gru_that_is_missing_is_named(trained: keras.Model) -> None:
    arrays: dict[str, Any] = read_keras_1(FILE)
    del arrays["gru2/U_r"]
    with pytest.raises(BadInputError, match=r"crnn_2017: gru_2/gru_cell/recurrent_kernel is missing$"):
        assign(trained, arrays)


def test_file_of_another_network_is_refused(trained: keras.Model) -> None:
    with pytest.raises(BadInputError, match="a HDF5 file of Keras 1 holds weights of crnn_2017, not of musicnn"):
        load_weights(find_network("musicnn"), FILE, 50)


def test_file_made_with_theano_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "theano.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file.create_group("conv1")["conv1_W"] = np.zeros((64, 1, 3, 3), np.float32)
    with pytest.raises(BadInputError, match="conv1_W is not TensorFlow's: take the file made with it"):
        read_keras_1(tmp_path / "theano.h5")
