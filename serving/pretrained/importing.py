"""Trained weights of a known network become a pushed version: the export that models trained here go through, too.

What is not known of such weights is said in the version's card: nothing was measured here, and the thresholds are one
number for all tags unless somebody gives others. Needs TensorFlow; what it leaves behind is tagged with without.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.whole_files import temporary_folder
from serving.model_info import DataInfo, Origin
from serving.model_versions import version_folders
from serving.pretrained.catalogue import THRESHOLD, TrainedModel

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble

CONVERSION: Final = ("tensorflow", "keras", "onnx", "tf2onnx", "ai_edge_litert")
"""Modules without which no version can be made."""

UNMEASURED: Final = "thresholds were not measured: {} for every tag"


@dataclass(frozen=True)
class Weights:
    """Trained weights and what is known of them.

    Attributes:
        network: whose they are, in models.registry.
        path: file or folder, of any kind that serving.pretrained.convert reads.
        tags: in the order of the outputs.
        origin: where they come from.
        data: what they were trained on.
        variant: which of several sets of weights in the file.
        thresholds: tag for tag, or one for all.
    """

    network: str
    path: Path
    tags: Sequence[str]
    origin: Origin
    data: DataInfo
    variant: str = ""
    thresholds: Sequence[float] | float = THRESHOLD


def import_weights(weights: Weights, out_dir: Path, clip: ClipFormat = PAPER_CLIP) -> Path:
    """Make a version of trained weights: SavedModel with all signatures, engines' files, card.

    Args:
        weights: which.
        out_dir: folder of versions; the new one is the next number, there when it is whole.
        clip: what the model takes at once.

    Returns:
        The version's folder.

    Raises:
        BadInputError: the weights, the network and the tags do not fit each other.
        AutotagError: what converts them is not installed, or the version cannot be written.
    """
    check_conversion()
    ensemble = load_ensemble(weights, clip)
    try:
        with temporary_folder(out_dir) as folder:
            _write(ensemble, weights, folder)
            version = out_dir / _next_version(out_dir)
            os.rename(folder, version)
    except OSError as error:
        raise AutotagError(f"{error.filename or out_dir}: {error.strerror or error}") from error
    return version


def load_ensemble(weights: Weights, clip: ClipFormat = PAPER_CLIP) -> Ensemble:
    """Return the network with its weights as a model of one member; errors as in import_weights."""
    check_conversion()
    from models.heads import Heads
    from models.outputs import with_heads
    from models.registry import find_network
    from serving.graph.ensemble import Ensemble, Member
    from serving.pretrained.convert import load_weights

    network = find_network(weights.network)
    heads = Heads.of_tags(len(weights.tags))
    logits = load_weights(network, weights.path, heads.size, weights.variant)
    member = Member(
        network.name, network, with_heads(logits, heads), network.score_windows, trained_on=weights.data.name
    )
    return Ensemble([member], None, heads, clip)


def weights_of(model: TrainedModel, path: Path) -> Weights:
    """Return a listed model's weights, fetched to ``path``, with what the list says of them."""
    figures = {"ROC-AUC": model.roc_auc, "PR-AUC": model.pr_auc}
    published = ", ".join(f"{name} {figure:.4f}" for name, figure in figures.items() if figure is not None)
    notes = [UNMEASURED.format(THRESHOLD), *([model.notes] if model.notes else [])]
    return Weights(
        network=model.network,
        path=path,
        tags=model.tags(),
        origin=Origin(
            name=model.name,
            source=f"{model.source}, from {model.place}",
            licence=model.licence,
            published=f"{published} ({model.trained_on}, {model.split})" if published else "",
            notes="; ".join(notes),
        ),
        data=unmeasured_data(model.trained_on, model.data_licence, model.split),
        variant=model.variant,
    )


def unmeasured_data(name: str, licence: str, split: str = "") -> DataInfo:
    """What is known of data that others trained on: no clips were counted."""
    return DataInfo(name, licence, {"rule": split or "unknown"}, {}, {})


def check_conversion() -> None:
    """Make sure that weights can be converted here.

    Raises:
        AutotagError: something is not installed.
    """
    missing = [module for module in CONVERSION if importlib.util.find_spec(module) is None]
    if missing:
        raise AutotagError(
            f"trained weights are converted once, with TensorFlow and ONNX, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install '.[pretrained]'. "
            "Tagging itself needs none of them"
        )


def _write(ensemble: Ensemble, weights: Weights, folder: Path) -> None:
    from serving.graph.export import export_ensemble, write_engine_files

    one = weights.thresholds
    thresholds = [float(one)] * len(weights.tags) if isinstance(one, int | float) else one
    try:
        info = export_ensemble(folder, ensemble, weights.tags, thresholds, weights.data, {}, weights.origin)
    except ValueError as error:
        raise BadInputError(f"{weights.path}: {error}") from error
    write_engine_files(folder, ensemble, info)


def _next_version(out_dir: Path) -> str:
    return str(1 + max((int(path.name) for path in version_folders(out_dir, whole=False)), default=0))
