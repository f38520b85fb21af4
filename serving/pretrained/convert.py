"""Trained weights, whatever their file, in a network of ours: a file's content says how it is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras

from models.registry import Network
from preprocessing.errors import BadInputError
from serving.pretrained import choi_hdf5, keras_file, liu_yang_npz, musicnn_wheel, sota_2020, tf1_checkpoint, torch_file
from serving.pretrained.layer_weights import Array

Assign = Callable[[keras.Model, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Format:
    """A kind of file and whose weights come in it.

    Attributes:
        title: for people.
        recognises: whether a path is of this kind.
        fill: puts the weights of a path into a built network. The third argument is the variant, "" for the only one.
        networks: names of those whose weights come so; None for any.
        check: refuses a set of weights, by its name, for a network that it was not trained with.
    """

    title: str
    recognises: Callable[[Path], bool]
    fill: Callable[[keras.Model, Path, str], None]
    networks: Collection[str] | None = None
    check: Callable[[str, str], None] = lambda variant, network: None


def _fill_from_checkpoint(model: keras.Model, path: Path, variant: str) -> None:
    musicnn_wheel.assign(model, tf1_checkpoint.read_checkpoint(path, variant))


def _fill_from_keras_3(model: keras.Model, path: Path, variant: str) -> None:
    _refuse_variant(path, variant)
    keras_file.load_keras_3(model, path)


def _fill_with(read: Callable[[Path], Mapping[str, Array]], assign: Assign) -> Callable[[keras.Model, Path, str], None]:
    """Of a file that holds one set of weights."""

    def fill(model: keras.Model, path: Path, variant: str) -> None:
        _refuse_variant(path, variant)
        arrays = read(path)
        try:
            assign(model, arrays)
        except BadInputError as error:
            raise BadInputError(f"{path}: {error}") from error

    return fill


def _refuse_variant(path: Path, variant: str) -> None:
    if variant:
        raise BadInputError(f"{path}: holds one set of weights, none that is called {variant!r}")


FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "HDF5 file of Keras 1",
        choi_hdf5.is_keras_1_file,
        _fill_with(choi_hdf5.read_keras_1, choi_hdf5.assign),
        ("crnn_2017",),
    ),
    Format(
        "npz file of clip2frame",
        liu_yang_npz.is_liu_yang,
        _fill_with(liu_yang_npz.read_liu_yang, liu_yang_npz.assign),
        ("liu_yang",),
    ),
    Format(
        "file of Keras 3 (.keras or .weights.h5)",
        keras_file.is_keras_3_file,
        _fill_from_keras_3,
    ),
    Format(
        "file of PyTorch (.pth)",
        torch_file.is_torch_file,
        _fill_with(torch_file.read_state_dict, sota_2020.assign),
        sota_2020.NETWORKS,
    ),
    Format(
        "checkpoint of TensorFlow 1",
        lambda path: bool(tf1_checkpoint.checkpoints_in(path)),
        _fill_from_checkpoint,
        tuple(dict.fromkeys(musicnn_wheel.NETWORK_OF.values())),
        musicnn_wheel.check_network,
    ),
)


def load_weights(network: Network, path: Path, n_outputs: int, variant: str = "") -> keras.Model:
    """Build a network and give it the trained weights of a file or folder.

    Args:
        network: which.
        path: the file, folder or prefix of the weights.
        n_outputs: number of tags that they were trained on.
        variant: which of several sets of weights, where ``path`` holds several (the musicnn wheel: ``MTT_musicnn``).

    Returns:
        The network in float32; its input -> logits (batch, n_outputs) float32.

    Raises:
        BadInputError: the file cannot be read, is of no known kind, or holds another network's weights.
    """
    if not path.parent.is_dir():
        raise BadInputError(f"{path}: there is no such file or folder")
    found = next((known for known in FORMATS if known.recognises(path)), None)
    if found is None:
        raise BadInputError(f"{path}: holds no weights of a known kind: {', '.join(known.title for known in FORMATS)}")
    if found.networks is not None and network.name not in found.networks:
        raise BadInputError(
            f"{path}: a {found.title} holds weights of {', '.join(found.networks)}, not of {network.name}"
        )
    found.check(variant or path.name, network.name)
    model = network.build(n_outputs, dtype="float32")
    found.fill(model, path, variant)
    return model
