"""How networks and combiners are trained: each setting's name, type, default, range and meaning, said here alone.

What a user writes (pipeline.settings) inherits from these, and a Trainer gets TrainingSettings as JSON. Neither Keras
nor TensorFlow is imported.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.registry import Network
from preprocessing.level import Level
from preprocessing.windows import WindowRule

SteadySchedule = Literal["constant", "cosine", "one_cycle", "plateau"]
Schedule = Literal[SteadySchedule, "adam_sgd"]
"""Of the learning rate, see components.optimisation; the steady ones keep one optimiser."""

Monitor = Literal["roc_auc", "pr_auc", "loss"]
Fit = Literal["valid", "out_of_fold", "in_sample"]
"""On which predictions a combiner is fitted, see components.combiners."""
VALID: Final = "valid"
OUT_OF_FOLD: Final = "out_of_fold"
IN_SAMPLE: Final = "in_sample"

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]

Epochs = Annotated[int, Field(ge=1, description="at most")]
BatchSize = Annotated[int, Field(ge=1, description="clips, or windows of them, in a step, over all devices")]
LearningRate = Annotated[float, Field(gt=0, description="at its highest")]
Patience = Annotated[int, Field(ge=1, description="epochs without a better figure")]
TrainWindows = Annotated[int, Field(ge=1, description="random ones of a clip in an epoch")]
ScoreWindows = Annotated[
    int | None, Field(ge=1, description="evenly spaced ones that are averaged; the network's own rule")
]
Weights = Annotated[
    str | None,
    Field(description="to start from: a name that `autotag pretrained` lists, a pushed version, a .keras file"),
]


class Settings(BaseModel):
    """Settings that are checked, complete and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Optimisation(Settings):
    """How weights are learnt, see components.optimisation."""

    epochs: Epochs = 30
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 1e-3
    schedule: Schedule = Field("cosine", description="of the learning rate: components/optimisation.py")
    weight_decay: float = Field(0.0, ge=0, description="decoupled; with adam_sgd in the gradient")
    layer_decay: float = Field(1.0, gt=0, le=1, description="of the learning rate, from each layer to the one before")
    average: float = Field(0.0, ge=0, lt=1, description="momentum of the weights' moving average; 0 for none")

    @property
    def never_stops_early(self) -> bool:
        """Whether the timetable alone ends the training."""
        return self.schedule == "adam_sgd"


class FitSettings(Optimisation):
    """How a model is fitted in epochs, see components.fitting: what decides, what is random, what holds it back."""

    monitor: Monitor = Field("roc_auc", description="on the validation split")
    patience: Patience = 5
    seed: int = Field(0, description="of weights, order, windows and augmentation")
    precision: Precision = Field("auto", description="of training; auto is bfloat16 where the device multiplies in it")
    dropout: float | None = Field(None, ge=0, lt=1, description="of the network's own dropout layers; theirs")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share by which labels are drawn to the middle")
    class_balance: float = Field(0.0, ge=0, le=1, description="exponent of the weight of rare tags")
    freeze_batch_norm: bool = Field(False, description="of a network with trained weights")


class Augmentation(Settings):
    """What is changed at random in training clips, see components.augmentation; nothing unless asked for."""

    time_shift: bool = Field(False, description="turn each training clip round by a random time")
    gain_db: float = Field(0.0, ge=0, description="deviation of a random gain on each training clip")
    equaliser_db: float = Field(0.0, ge=0, description="deviation of a random filter's gains")
    noise: float = Field(0.0, ge=0, le=1, description="share of the training clips with white noise in them")
    mp3: float = Field(0.0, ge=0, le=1, description="share of the training clips that go through MP3")
    mixup: float = Field(0.0, ge=0, description="alpha of the shares of two mixed clips; 0 for none")

    @property
    def changes_clips(self) -> bool:
        """Whether anything is asked for."""
        return any(getattr(self, name) for name in Augmentation.model_fields)

    @property
    def needs_waveform(self) -> bool:
        """Whether it can be done to waveforms alone."""
        return self.mp3 > 0


class NetworkSettings(Augmentation, FitSettings):
    """What a network's configuration and its Trainer have alike."""

    level: Level = Field(
        "as_is",
        description="at which windows are heard: rms brings each to -18 dBFS, so that tags do not change with it",
    )
    frequency_mask: float = Field(
        0.0, ge=0, le=0.5, description="share of the bands under a mask at most; not of waveforms"
    )
    time_mask: float = Field(0.0, ge=0, le=0.5, description="share of the frames under a mask at most")


class TrainingSettings(NetworkSettings):
    """What a Trainer is told, as JSON that is part of the key of TFX's cache and of checkpoints.

    Training clips are brought to ``level`` first, and changed at random then.
    """

    train_windows: TrainWindows = 1
    score_windows: ScoreWindows = None
    weights: Weights = None
    train: Literal["all", "head"] | int = Field("all", description="or epochs of the head alone, before all is trained")

    def window_rule(self, network: Network) -> WindowRule:
        """Return the windows over which a clip's answer is averaged."""
        return network.score_windows if self.score_windows is None else WindowRule(self.score_windows)
