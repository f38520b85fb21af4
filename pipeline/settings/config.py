"""The pipeline's configuration: typed, from a YAML file with command-line overrides, saved with each run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from components.training_settings import OUT_OF_FOLD, Settings
from models.registry import NETWORKS, Network, find_network
from pipeline.settings.data_config import DataConfig, check_name
from pipeline.settings.kubeflow_config import KubeflowConfig
from pipeline.settings.network_config import CombinerConfig, EnsembleConfig, NetworkConfig
from pipeline.settings.old_settings import convert_old
from pipeline.settings.overrides import set_value
from preprocessing.beam.settings import BeamSettings
from preprocessing.deformations import parse_deformation
from preprocessing.errors import BadInputError
from preprocessing.settings_file import read_settings_file, wrong_setting
from preprocessing.storage import absolute

PAPER_NETWORKS = ("mel_1d", "mel_2d", "waveform_1d")
"""Of Bengani et al. (2019): what is trained unless a configuration says other."""
MOST_FOR_SUBSETS = 3
"""Up to so many networks all their combinations are measured, as the paper's Table 5 has them."""


def all_subsets(networks: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of two and more networks, in the paper's order."""
    return [chosen for size in range(2, len(networks) + 1) for chosen in itertools.combinations(networks, size)]


def deformation_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return deformations as preprocessing.deformations writes them, in the same order.

    Raises:
        ValueError: there is no such deformation, or one stands there twice.
    """
    try:
        found = tuple(parse_deformation(name).name for name in names)
    except BadInputError as error:
        raise ValueError(str(error)) from None
    if len(set(found)) < len(found):
        raise ValueError(f"{max(found, key=found.count)!r} stands there twice")
    return found


Deformations = Annotated[tuple[str, ...], AfterValidator(deformation_names)]


class RobustnessConfig(Settings):
    """What the candidate is tested with besides the clean test split."""

    deformations: Deformations = Field((), description="noise_0.1, mp3_32 and others: preprocessing/deformations.py")


class GateConfig(Settings):
    """When a model may be pushed."""

    min_roc_auc: float = Field(0.80, ge=0, le=1, description="macro ROC-AUC on the test split, at least")
    max_drop: float = Field(0.005, ge=0, le=1, description="ROC-AUC that it may lie below the latest blessed model")
    robustness: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="deformation -> ROC-AUC that it may lie below that of the clean test split"
    )

    @field_validator("robustness")
    @classmethod
    def _known(cls, limits: dict[str, float]) -> dict[str, float]:
        return dict(zip(deformation_names(list(limits)), limits.values(), strict=True))


class MetadataConfig(Settings):
    """Where ML Metadata is kept: a file under the run's root, or a server that several people and machines share."""

    kind: Literal["sqlite", "mysql", "postgresql"] = Field("sqlite", description="mysql is MariaDB's too")
    host: str | None = Field(None, description="of the database server")
    port: int | None = Field(None, ge=1, le=65535, description="3306 (mysql) or 5432 (postgresql) unless given")
    database: str | None = Field(None, pattern=r"^[A-Za-z0-9_]+$", description="name of the database")
    user: str | None = Field(None, description="of the database")
    password_env: str | None = Field(
        "AUTOTAG_METADATA_PASSWORD", description="variable that holds the password; null where the server asks for none"
    )
    password_file: str | None = Field(None, description="file that holds the password, instead of the variable")

    @model_validator(mode="after")
    def _server_or_none(self) -> MetadataConfig:
        needed = ("host", "database", "user")
        if self.kind != "sqlite":
            missing = [name for name in needed if not getattr(self, name)]
            if missing:
                raise ValueError(f"{self.kind} needs {', '.join(missing)}")
        else:
            given = [name for name in (*needed, "port", "password_file") if getattr(self, name)]
            if given:
                raise ValueError(f"{given[0]} is of a server: set kind to mysql or postgresql")
        return self


class PipelineConfig(Settings):
    """Everything that a run is made from."""

    name: str = Field("autotag", description="of the pipeline, by which runs are listed")
    root: str = Field("demo-run", description="artifacts, metadata, checkpoints and pushed models")
    push_dir: str | None = Field(None, description="where TF Serving looks; ROOT/pushed unless given")
    data: DataConfig = Field(DataConfig(), description="what is learnt from")
    networks: dict[str, NetworkConfig] = Field(
        default_factory=lambda: {name: NetworkConfig() for name in PAPER_NETWORKS},
        min_length=1,
        description="what is trained",
    )
    ensembles: dict[str, EnsembleConfig] = Field(
        default_factory=dict, description="of networks above; the paper's, where its three networks are all there is"
    )
    combiner: CombinerConfig = Field(CombinerConfig(), description="how those of ensembles are fitted")
    push: str | None = Field(None, description="network or ensemble of the model that is pushed")
    gate: GateConfig = Field(GateConfig(), description="when a model may be pushed")
    robustness: RobustnessConfig = Field(RobustnessConfig(), description="under which deformations it is tested")
    beam: BeamSettings = Field(
        BeamSettings(),
        description="of ExampleGen, StatisticsGen, Transform, Evaluator and the like, as autotag preprocess has it",
    )
    metadata: MetadataConfig = Field(MetadataConfig(), description="where ML Metadata is kept")
    kubeflow: KubeflowConfig = Field(KubeflowConfig(), description="where and how it runs on Kubeflow")

    @model_validator(mode="before")
    @classmethod
    def _paper_ensemble(cls, values: Any) -> Any:
        """The paper's three networks and nothing said of ensembles: the paper's ensemble."""
        if not isinstance(values, dict) or values.keys() & {"ensembles", "push"}:
            return values
        if set(values.get("networks") or PAPER_NETWORKS) == set(PAPER_NETWORKS):
            paper = {"of": PAPER_NETWORKS, "combiner": "dense", "fit": "in_sample"}
            return {**values, "ensembles": {"paper": paper}}
        return values

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, networks: dict[str, NetworkConfig]) -> dict[str, NetworkConfig]:
        for name, network in networks.items():
            check_name(name, "network")
            if (network.network or name) not in NETWORKS:
                raise ValueError(
                    f"{name}: no network is called {network.network or name!r}; there are {', '.join(NETWORKS)}"
                )
        return networks

    @model_validator(mode="after")
    def _ensembles_of_networks(self) -> PipelineConfig:
        for name, ensemble in self.ensembles.items():
            check_name(name, "ensemble")
            if name in self.networks:
                raise ValueError(f"ensembles: {name!r} is a network's name already")
            missing = [network for network in ensemble.of if network not in self.networks]
            if missing or len(set(ensemble.of)) < len(ensemble.of):
                raise ValueError(
                    f"ensembles.{name}: {list(ensemble.of)}: expected different ones of {', '.join(self.networks)}"
                )
        possible = [*self.networks, *self.ensembles]
        if self.push is not None and self.push not in possible:
            raise ValueError(f"push: {self.push!r}: expected one of {', '.join(possible)}")
        if self.push is None and len(self.ensembles) != 1 and len(self.networks) != 1:
            raise ValueError(f"push: say which model is to be pushed: {', '.join(possible)}")
        return self

    @model_validator(mode="after")
    def _networks_hear_clips(self) -> PipelineConfig:
        for name in self.networks:
            try:
                self.network(name).window_in(self.data.clip.format)
            except BadInputError as error:
                raise ValueError(f"networks.{name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _deformations_of_these_clips(self) -> PipelineConfig:
        for name in self.deformations:
            try:
                parse_deformation(name).check(self.data.clip.sample_rate)
            except BadInputError as error:
                raise ValueError(f"robustness: {error}") from None
        return self

    @property
    def deformations(self) -> tuple[str, ...]:
        """Names of those that are measured: all that are listed, then those that the gate alone asks for."""
        return tuple(dict.fromkeys([*self.robustness.deformations, *self.gate.robustness]))

    def network(self, name: str) -> Network:
        """Return the registry's entry of a network of this configuration."""
        return find_network(self.networks[name].network or name)

    @property
    def push_name(self) -> str:
        """Network or ensemble that is pushed."""
        return self.push or next(iter(self.ensembles), None) or next(iter(self.networks))

    @property
    def needs_folds(self) -> bool:
        """Whether some combiner is fitted on predictions for clips that the networks were not trained on."""
        return any(one.fit == OUT_OF_FOLD and one.combiner != "mean" for one in self.all_combinations().values())

    def all_combinations(self) -> dict[str, EnsembleConfig]:
        """Return the ensembles and, of up to three networks, all further subsets, combined as the pushed one is."""
        combinations = dict(self.ensembles)
        if 2 <= len(self.networks) <= MOST_FOR_SUBSETS:
            like = self.ensembles.get(self.push_name) or next(iter(self.ensembles.values()), None)
            there = {frozenset(one.of) for one in combinations.values()}
            for chosen in all_subsets(list(self.networks)):
                if like is not None and frozenset(chosen) not in there:
                    combinations["+".join(chosen)] = EnsembleConfig(of=chosen, combiner=like.combiner, fit=like.fit)
        return combinations

    @property
    def pushed(self) -> str:
        """Folder of the pushed versions."""
        return absolute(self.push_dir or os.path.join(self.root, "pushed"))

    @property
    def metadata_file(self) -> str:
        """SQLite file of ML Metadata, where it is one."""
        return os.path.join(os.path.abspath(self.root), "metadata.sqlite")

    def to_yaml(self) -> str:
        """Serialise in full."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: str | None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration.

    Args:
        path: YAML file; None for the defaults.
        overrides: ``KEY=VALUE`` with a dotted key, such as ``networks.mel_1d.epochs=3``; see overrides.py.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    values = read_settings_file(path) if path else {}
    for override in overrides:
        if override.startswith(("networks.", "branches.")) and not values.keys() & {"networks", "branches"}:
            values["networks"] = {name: {} for name in PAPER_NETWORKS}
        set_value(PipelineConfig, values, override)
    values = convert_old(values, path or "settings")
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise wrong_setting(error, path or "settings") from None
