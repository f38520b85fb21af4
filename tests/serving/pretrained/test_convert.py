from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from models.registry import find_network
from preprocessing.errors import BadInputError
from serving.pretrained.convert import load_weights


@pytest.fixture(scope="module")
def vgg() -> keras.Model:
    return find_network("vgg").build(10, seed=5)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_keras_own_file_gives_its_weights_back(vgg: keras.Model, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"best{ending}"
    if ending == ".keras":
        vgg.save(path)
    else:
        vgg.save_weights(path)
    loaded = load_weights(find_network("vgg"), path, 10)
    for ours, theirs in zip(loaded.get_weights(), vgg.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_keras_file_of_other_tags_is_refused(vgg: keras.Model, tmp_path: Path) -> None:
    vgg.save(tmp_path / "best.keras")
    with pytest.raises(BadInputError, match=r"best\.keras: the weights are not those of vgg: .*shape=\(256, 50\)"):
        load_weights(find_network("vgg"), tmp_path / "best.keras", 50)


def test_keras_file_of_another_network_is_refused_though_the_shapes_fit(vgg: keras.Model, tmp_path: Path) -> None:
    vgg.save(tmp_path / "best.keras")
    with pytest.raises(BadInputError, match=r"best\.keras: holds weights of vgg, not of vgg_msd$"):
        load_weights(find_network("vgg_msd"), tmp_path / "best.keras", 10)


def test_name_of_a_set_is_refused_where_there_is_one_set(vgg: keras.Model, tmp_path: Path) -> None:
    vgg.save(tmp_path / "best.keras")
    with pytest.raises(BadInputError, match="holds one set of weights, none that is called 'MTT_vgg'"):
        load_weights(find_network("vgg"), tmp_path / "best.keras", 10, "MTT_vgg")


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "empty.npz"), (b"PK\x03\x04" + bytes(50), "cut.keras"), (b"\x89HDF\r\n\x1a\n" + bytes(90), "cut.h5")],
)
def test_file_without_weights_is_refused_with_the_kinds_that_are_known(
    tmp_path: Path, content: bytes, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=r"holds no weights of a known kind: HDF5 file of Keras 1, npz file"):
        load_weights(find_network("vgg"), tmp_path / name, 10)


def test_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no such file or folder"):
        load_weights(find_network("vgg"), tmp_path / "nowhere" / "best.keras", 10)
