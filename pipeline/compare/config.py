"""A comparison's configuration: which networks are trained how, on what, and how often."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from components.training_settings import Settings
from pipeline.settings.config import Deformations, PipelineConfig, RobustnessConfig
from pipeline.settings.data_config import DataConfig, check_name
from pipeline.settings.kubeflow_config import KubeflowConfig
from pipeline.settings.network_config import CombinerConfig, EnsembleConfig, NetworkConfig
from pipeline.settings.overrides import set_value
from preprocessing.beam.settings import BeamSettings
from preprocessing.settings_file import read_settings_file, wrong_setting


def row_name(network: str, recipe: str) -> str:
    """Name of all trainings of a network by a recipe, whatever the seed."""
    return f"{network}__{recipe}"


@dataclass(frozen=True)
class Entry:
    """One training of a comparison.

    Attributes:
        data: name of the data set.
        network: name of the network.
        recipe: name of the recipe.
        seed: of weights, order, windows and augmentation.
    """

    data: str
    network: str
    recipe: str
    seed: int

    @property
    def row(self) -> str:
        """Name of the row of the results that it belongs to."""
        return row_name(self.network, self.recipe)

    @property
    def name(self) -> str:
        """Of its nodes in the pipeline of its data set."""
        return f"{self.row}__{self.seed}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.network}, {self.recipe}, seed {self.seed}, on {self.data}"


class ComparisonConfig(Settings):
    """Everything that a comparison can be told."""

    name: str = Field("comparison", description="of the pipelines in ML Metadata, with the data set's behind it")
    root: str = Field("comparison-run", description="with a folder for each data set")
    data: dict[str, DataConfig] = Field(min_length=1, description="name -> as in `autotag run`")
    networks: dict[str, dict[str, Any]] = Field(min_length=1, description="name -> settings as in `autotag run`")
    recipes: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: {"paper": {"recipe": "paper"}},
        min_length=1,
        description="name -> settings that stand over each network's; {recipe: good} for a ready-made one",
    )
    ensembles: dict[str, EnsembleConfig] = Field(
        default_factory=dict, description="name -> as in `autotag run`, of networks above; made by each recipe and seed"
    )
    combiner: CombinerConfig = Field(CombinerConfig(), description="as in `autotag run`")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="each network is trained once with each")
    deformations: Deformations = Field((), description="of the test split: preprocessing/deformations.py")
    reference: str | None = Field(None, description="network__recipe that others are compared with; the best one")
    note: str = Field("", description="printed with the results")
    beam: BeamSettings = Field(BeamSettings(), description="as in `autotag run`")
    kubeflow: KubeflowConfig = Field(KubeflowConfig(), description="as in `autotag run`; for `autotag kubeflow`")

    @field_validator("networks", "recipes", "data", "ensembles")
    @classmethod
    def _names(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            check_name(name, "network, an ensemble, a recipe or a data set of a comparison")
            if "__" in name:
                raise ValueError(f"{name!r}: two underscores part a network's name from its recipe's")
        return values

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("expected different ones")
        return seeds

    @model_validator(mode="after")
    def _all_can_be_trained(self) -> ComparisonConfig:
        for name, ensemble in self.ensembles.items():
            if name in self.networks:
                raise ValueError(f"ensembles: {name!r} is a network's name already")
            missing = [network for network in ensemble.of if network not in self.networks]
            if missing:
                raise ValueError(f"ensembles.{name}: {missing[0]!r}: expected one of {', '.join(self.networks)}")
        for data in self.data:
            self.pipeline(data)
        rows = {row_name(name, recipe) for name in (*self.networks, *self.ensembles) for recipe in self.recipes}
        if self.reference is not None and self.reference not in rows:
            raise ValueError(f"reference: {self.reference!r}: expected one of {', '.join(sorted(rows))}")
        return self

    def entries(self) -> Iterator[Entry]:
        """Yield all trainings: one of each first, ensembles after their networks, then further seeds."""
        for seed in self.seeds:
            for data in self.data:
                for name in (*self.networks, *self.ensembles):
                    for recipe in self.recipes:
                        yield Entry(data, name, recipe, seed)

    def pipeline(self, data: str) -> PipelineConfig:
        """Return the configuration of a data set's pipeline: all of its entries as networks and ensembles.

        Raises:
            ValueError: a setting is wrong.
        """
        entries = [entry for entry in self.entries() if entry.data == data]
        networks = {entry.name: self.settings(entry) for entry in entries if entry.network in self.networks}
        ensembles = {entry.name: self._ensemble(entry) for entry in entries if entry.network in self.ensembles}
        return PipelineConfig(
            name=f"{self.name}_{data}",
            root=os.path.join(self.root, data),
            data=self.data[data],
            networks=networks,
            ensembles=ensembles,
            combiner=self.combiner,
            push=next(iter(networks)),
            robustness=RobustnessConfig(deformations=self.deformations),
            beam=self.beam,
            kubeflow=self.kubeflow,
        )

    def settings(self, entry: Entry) -> NetworkConfig:
        """Return how an entry is trained: the network's settings, the recipe's over them, and the seed."""
        values = {"network": entry.network, **self.networks[entry.network], **self.recipes[entry.recipe]}
        return NetworkConfig.model_validate({**values, "seed": entry.seed})

    def made_of(self, entry: Entry) -> list[Entry]:
        """Return the networks of an ensemble, of the same recipe and seed; none of a network."""
        ensemble = self.ensembles.get(entry.network)
        return [] if ensemble is None else [dataclasses.replace(entry, network=network) for network in ensemble.of]

    def _ensemble(self, entry: Entry) -> EnsembleConfig:
        of = tuple(network.name for network in self.made_of(entry))
        return self.ensembles[entry.network].model_copy(update={"of": of})

    def to_yaml(self) -> str:
        """Serialise in full."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def is_comparison(values: Mapping[str, Any]) -> bool:
    """Whether the settings of a file are a comparison's and not a run's.

    They are where they have a setting that comparisons alone have, or where ``data`` is data sets by name.
    """
    if values.keys() & (ComparisonConfig.model_fields.keys() - PipelineConfig.model_fields.keys()):
        return True
    data = values.get("data")
    if not isinstance(data, dict) or not data or data.keys() & DataConfig.model_fields.keys():
        return False
    return all(isinstance(one, dict) for one in data.values())


def load_comparison(path: str, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read a comparison's configuration.

    Args:
        path: YAML file.
        overrides: ``KEY=VALUE`` with a dotted key; see pipeline.settings.overrides.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    values = read_settings_file(path)
    for override in overrides:
        set_value(ComparisonConfig, values, override)
    try:
        return ComparisonConfig.model_validate(values)
    except ValidationError as error:
        raise wrong_setting(error, path) from None
