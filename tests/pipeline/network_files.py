"""Networks' files without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np


def keras_file(path: Path, kernel: np.ndarray, layer: str = "logits") -> Path:
    """What Keras 3 saves of a network, as far as it is read."""
    with h5py.File(path.with_suffix(".h5"), "w") as weights:
        for name, values in (("conv_1", np.ones((3, 2))), (layer, kernel)):
            group = weights.create_group(f"layers/{name}_of_its_kind/vars")
            group.attrs["name"] = name
            group["0"] = values
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".h5"), "model.weights.h5")
    return path
