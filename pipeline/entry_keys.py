"""What an evaluation of a network or ensemble is known by: the data, settings and code that it was made of.

Without TFX, so that tables of what there is are read at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.source_hash import EXAMPLE_SOURCE, TRAINING_SOURCE, network_hash, source_hash
from components.training_settings import OUT_OF_FOLD
from pipeline.settings.config import PipelineConfig


@dataclass(frozen=True)
class Inputs:
    """What a run is made from besides the settings.

    Attributes:
        manifest: path of preprocessing.manifest.Manifest as JSON; None where ClipExampleGen makes it itself.
        data_version: the manifest's fingerprint, so that TFX's cache sees a change; components.example_gen.ANY_VERSION
            where it is not known before the run.
        schema: of the raw examples, as protobuf text.
        push_token: another one in every run, so that the Pusher is never taken from the cache: it looks at its folder
            and pushes again what is not, or no longer, the newest version there.
    """

    manifest: str | None
    data_version: str
    schema: str
    push_token: str


def scoring_keys(config: PipelineConfig, inputs: Inputs, name: str) -> dict[str, str]:
    """Return the keys of an entry and, before it, of the networks that it is made of."""
    networks = config.ensembles[name].of if name in config.ensembles else ()
    return {one: entry_key(config, inputs, one) for one in (*networks, name)}


def entry_key(config: PipelineConfig, inputs: Inputs, name: str) -> str:
    """Return what an evaluation of a network or ensemble is known by: data, settings and code that it was made of."""
    if name in config.ensembles:
        ensemble = config.ensembles[name]
        made_of = {
            "name": name,
            "networks": [entry_key(config, inputs, one) for one in ensemble.of],
            "combiner": ensemble.model_dump(mode="json"),
            "settings": config.combiner.training_settings(),
            "folds": config.combiner.folds if ensemble.fit == OUT_OF_FOLD else 0,
            "code": source_hash("components.ensemble_scorer"),
        }
        return _digest(made_of)
    network = config.network(name)
    parts = {
        "name": name,
        "network": network.name,
        "settings": config.networks[name].training_settings(),
        "heads": heads_settings(config),
        "data": asdict(config.data.preprocess_settings()),
        "limits": [config.data.max_short_share, config.data.max_silent_share],
        "deformations": config.deformations,
        "schema": inputs.schema,
        "version": inputs.data_version,
        "code": [
            network_hash(network, *TRAINING_SOURCE, "components.network_scorer", "components.transform"),
            source_hash(*EXAMPLE_SOURCE),
        ],
    }
    return _digest(parts)


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def heads_settings(config: PipelineConfig) -> list[dict[str, Any]]:
    """What components are told of the heads, as JSON."""
    return [head.to_json() for head in config.data.head_settings()]
