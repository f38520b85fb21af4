"""The list of trained models as people and programs read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from serving.pretrained.cache import cached_version, versions_folder
from serving.pretrained.catalogue import CATALOGUE, TrainedModel

COLUMNS: Final = (
    "name", "trained on", "tags", "ROC-AUC", "PR-AUC", "split", "parameters", "MB", "licence", "from", "here"
)  # fmt: skip
FIGURES: Final = frozenset({"tags", "ROC-AUC", "PR-AUC", "parameters", "MB"})
"""Columns that are set flush right."""


def state(model: TrainedModel) -> str:
    """Whether a model is in the cache; if not, whether those who wrote the list could try it."""
    if cached_version(model.name) is not None:
        return "cached"
    return "" if model.tried else "not tried"


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the cells of each model's line, in the order of COLUMNS."""
    for model in CATALOGUE.values():
        yield (
            model.name,
            model.trained_on,
            str(len(model.tags())),
            *("" if figure is None else f"{figure:.4f}" for figure in (model.roc_auc, model.pr_auc)),
            model.split,
            f"{model.parameters:,}",
            "?" if model.size is None else f"{model.size / 1e6:.1f}",
            model.licence,
            model.place,
            state(model),
        )


def as_dicts() -> Iterator[dict[str, Any]]:
    """Yield all that is known of each model."""
    for model in CATALOGUE.values():
        known = dataclasses.asdict(model)
        files = [{**dataclasses.asdict(file), "place": file.place} for file in model.files]
        folder = str(versions_folder(model.name))
        yield {**known, "files": files, "tags": model.tags(), "size": model.size, "state": state(model), "path": folder}


LEGEND: Final = (
    "split: folder = MTAT's 5,329 test clips, clean = the 4,332 of them that carry one of the 50 tags; figures of "
    "different splits cannot be compared. parameters: trained ones. MB: to fetch, once. here: not tried = the file "
    "could not be had where this list was made. Data of MTAT and MTG-Jamendo are for non-commercial use, and so is "
    "what was trained on them."
)
