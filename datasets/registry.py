"""Every data set by name. Imports no audio, Beam, HTTP or TensorFlow, so that a configuration is checked at once."""

from __future__ import annotations

from typing import Final

from datasets import fma, folders, gtzan, jamendo, msd, mtat, synthetic, table
from datasets.dataset import Card as Card
from datasets.dataset import Dataset as Dataset
from datasets.dataset import Source as Source
from preprocessing.errors import BadInputError

_ALL: Final = (
    mtat.DATASET,
    synthetic.DATASET,
    table.DATASET,
    folders.DATASET,
    jamendo.DATASET,
    msd.DATASET,
    fma.DATASET,
    gtzan.DATASET,
)
DATASETS: Final = {dataset.name: dataset for dataset in _ALL}
"""name -> data set."""

RULES: Final = {name: rule for dataset in DATASETS.values() for name, rule in dataset.rules.items()}
"""name -> split rule, of all data sets together; not every data set has each."""


def find_dataset(name: str) -> Dataset:
    """Return the data set of this name.

    Raises:
        BadInputError: there is none.
    """
    if name not in DATASETS:
        raise BadInputError(f"data set {name!r}: expected one of {', '.join(DATASETS)}")
    return DATASETS[name]
