"""Hash of the project's own source, which goes into components' properties so that TFX's cache sees changed code.

TFX's cache key holds the dotted name of a user function and not what stands behind it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util


def source_hash(*modules: str) -> str:
    """Hash of modules' code, comments and layout left out.

    Args:
        modules: dotted names; nothing is imported but the packages that they lie in.

    Returns:
        16 hexadecimal digits.

    Raises:
        ValueError: a module has no source.
        ModuleNotFoundError: a package that a module lies in is not there.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"no source for the module {name}")
        with open(spec.origin, encoding="utf-8") as file:
            digest.update(ast.dump(ast.parse(file.read())).encode())
    return digest.hexdigest()[:16]


EXAMPLE_SOURCE = (
    "preprocessing.constants",
    "preprocessing.clip_format",
    "preprocessing.excerpts",
    "preprocessing.audio",
    "preprocessing.features",
    "preprocessing.examples",
    "preprocessing.shards",
    "preprocessing.manifest",
)
NETWORK_SOURCE = (
    "models.branches",
    "models.mel_1d",
    "models.mel_2d",
    "models.waveform_1d",
    "models.convolution",
    "models.heads",
    "models.outputs",
    "models.precision",
    "components.metrics",
    "components.training",
    "components.reader",
)
ENSEMBLE_SOURCE = (
    "models.branches",
    "models.combiner",
    "models.convolution",
    "models.front_ends.layers",
    "models.front_ends.mel",
    "models.front_ends.settings",
    "models.front_ends.spectrum",
    "models.heads",
    "models.outputs",
    "models.precision",
    "components.ensemble",
    "components.metrics",
    "components.reader",
    "components.thresholds",
    "components.training",
    "serving.engines.engine_files",
    "serving.graph.ensemble",
    "serving.graph.example_parser",
    "serving.graph.export",
    "serving.graph.frozen",
    "serving.graph.litert",
    "serving.model_info",
    "serving.graph.onnx_export",
    "serving.graph.request_checks",
    "serving.graph.signatures",
    "serving.graph.warm_up",
    "preprocessing.windows",
)
