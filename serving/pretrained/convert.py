"""Trained weights of others, whatever their file, in a network of ours: a file's content says how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras

from models.registry import Network
from preprocessing.errors import BadInputError
from serving.pretrained import choi_hdf5, liu_yang_npz, musicnn_wheel, tf1_checkpoint
from serving.pretrained.layer_weights import Array

Assign = Callable[[keras.Model, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Format:
    """A kind of file and whose weights come in it.

    Attributes:
        title: for people.
        recognises: whether a path is of this kind.
        read: its arrays, by the names that they have there. The second argument is the variant, "" for the only one.
        assign: puts them into the network of that name.
        check: refuses a set of weights, by its name, for a network that it was not trained with.
    """

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str], Mapping[str, Array]]
    assign: Mapping[str, Assign]
    check: Callable[[str, str], None] = lambda variant, network: None


FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "HDF5 file of Keras 1",
        choi_hdf5.is_keras_1_file,
        lambda path, variant: choi_hdf5.read_keras_1(path),
        {"crnn_2017": choi_hdf5.assign},
    ),
    Format(
        "npz file of clip2frame",
        liu_yang_npz.is_liu_yang,
        lambda path, variant: liu_yang_npz.read_liu_yang(path),
        {"liu_yang": liu_yang_npz.assign},
    ),
    Format(
        "checkpoint of TensorFlow 1",
        lambda path: bool(tf1_checkpoint.checkpoints_in(path)),
        tf1_checkpoint.read_checkpoint,
        dict.fromkeys(musicnn_wheel.NETWORK_OF.values(), musicnn_wheel.assign),
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
    if network.name not in found.assign:
        raise BadInputError(
            f"{path}: a {found.title} holds weights of {', '.join(found.assign)}, not of {network.name}"
        )
    found.check(variant or path.name, network.name)
    arrays = found.read(path, variant)
    model = network.build(n_outputs, dtype="float32")
    found.assign[network.name](model, arrays)
    return model
