"""Networks, ensembles and combiners of a configuration, and how they are trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from components.training_settings import (
    BatchSize,
    Epochs,
    Fit,
    LearningRate,
    NetworkSettings,
    Patience,
    ScoreWindows,
    Settings,
    SteadySchedule,
    TrainWindows,
    Weights,
)
from pipeline.settings.recipes import RECIPES


class WindowsConfig(Settings):
    """Windows of a clip, of a network that hears less than a clip."""

    train: TrainWindows = 1
    score: ScoreWindows = None


class HeadFirst(Settings):
    """Train the last layer first."""

    all_after: int = Field(ge=1, description="epochs of the last layer alone, before all is trained")


class NetworkChoice(Settings):
    """Which network, and what stands for settings that are not given."""

    network: str | None = Field(None, description="of `autotag networks`; its name here unless given")
    recipe: Literal["paper", "comparison", "good"] = Field(
        "paper", description="what stands for settings that are not given: pipeline/settings/recipes.py"
    )


class NetworkConfig(NetworkSettings, NetworkChoice):
    """One network and how it is trained."""

    windows: WindowsConfig = Field(
        WindowsConfig(), description="of a clip, that a network learns from and is asked about"
    )
    weights: Weights = None
    train: Literal["all", "head"] | HeadFirst = Field("all", description="what is trained, where weights are given")

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        recipe = values.get("recipe", "paper")
        return {**RECIPES.get(recipe if isinstance(recipe, str) else "", {}), **values}

    @model_validator(mode="after")
    def _weights_for_head(self) -> NetworkConfig:
        if self.train != "all" and self.weights is None:
            raise ValueError("train other than 'all' needs weights to start from")
        return self

    def training_settings(self) -> dict[str, Any]:
        """What a Trainer takes, as JSON."""
        values = self.model_dump(mode="json", exclude={"network", "recipe", "windows", "train"})
        train = self.train.all_after if isinstance(self.train, HeadFirst) else self.train
        return {**values, "train_windows": self.windows.train, "score_windows": self.windows.score, "train": train}


class CombinerConfig(Settings):
    """How combiners that are trained in epochs are trained: in float32, on the networks' probabilities."""

    epochs: Epochs = 100
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 1e-3
    schedule: SteadySchedule = Field("cosine", description="of the learning rate")
    patience: Patience = 10
    seed: int = Field(0, description="of weights and order")
    folds: int = Field(3, ge=2, le=20, description="of the training split, for combiners that are fitted out of fold")

    def training_settings(self) -> dict[str, Any]:
        """What EnsembleTrainer takes, as JSON."""
        return self.model_dump(mode="json", exclude={"folds"})


class EnsembleConfig(Settings):
    """Several networks and what makes one answer of theirs (models.combiner)."""

    of: tuple[str, ...] = Field(min_length=2, description="networks, in the order of the combiner's inputs")
    combiner: Literal["dense", "logistic", "mean"] = Field("dense", description="the paper's; per tag; nothing learnt")
    fit: Fit = Field("valid", description="on whose predictions: see components/combiners.py")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, values: Any) -> Any:
        return {"of": values} if isinstance(values, list | tuple) else values
