"""What TFX's Evaluator calls to label clips of another data set with a model's tags (components.shared_tags).

A model's own labels are those of its tags by their exact names. Where the data calls them otherwise, its tags are read
off the examples and translated; the translation stands in the settings of the metric ``MacroTagScores``.
"""

from __future__ import annotations

import json
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors.labels_extractor import LABELS_EXTRACTOR_STAGE_NAME

from components.shared_tags import SharedTags
from preprocessing.examples import decode_tags

SHARED: Final = "shared"
"""Setting of the metric that holds the translation."""


def custom_extractors(
    eval_shared_model: Any, eval_config: tfma.EvalConfig, tensor_adapter_config: Any
) -> list[tfma.extractors.Extractor]:
    """Return TFMA's extractors, with labels translated after they are extracted.

    Raises:
        ValueError: the evaluation's settings hold no translation.
    """
    shared = _shared_of(eval_config)
    extractors = []
    for extractor in tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    ):
        extractors.append(extractor)
        if extractor.stage_name == LABELS_EXTRACTOR_STAGE_NAME:
            translate = beam.Map(translate_labels, shared)
            extractors.append(tfma.extractors.Extractor(stage_name="TranslateLabels", ptransform=translate))
    return extractors


def translate_labels(extracts: dict[str, Any], shared: SharedTags) -> dict[str, Any]:
    """Replace the labels of a batch of examples, for one model or for each of two."""
    labels = shared.labels(decode_tags(record) for record in np.ravel(extracts[tfma.INPUT_KEY]))
    own = extracts[tfma.LABELS_KEY]
    return {**extracts, tfma.LABELS_KEY: dict.fromkeys(own, labels) if isinstance(own, dict) else labels}


def _shared_of(eval_config: tfma.EvalConfig) -> SharedTags:
    for spec in eval_config.metrics_specs:
        for metric in spec.metrics:
            settings = json.loads(metric.config or "{}")
            if settings.get(SHARED):
                return SharedTags.from_json(settings[SHARED])
    raise ValueError("the evaluation's settings do not say which tags are shared")
