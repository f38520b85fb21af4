"""The branches by name: what each one reads and what builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from models.heads import Heads
from models.mel_1d import build_mel_1d
from models.mel_2d import build_mel_2d
from models.outputs import with_heads
from models.registry import BuildNetwork
from models.waveform_1d import build_waveform_1d
from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS, N_TAGS

if TYPE_CHECKING:
    import keras

BranchInput = Literal["log_mel", "waveform"]

INPUT_SHAPES: Final[dict[BranchInput, tuple[int, ...]]] = {"log_mel": (N_MELS, N_FRAMES), "waveform": (CLIP_SAMPLES,)}
"""Shape of one clip for each kind of input, without the batch."""


class BuildBranch(Protocol):
    """Makes an untrained network: (batch, *INPUT_SHAPES[input]) -> probabilities (batch, n_tags) float32."""

    def __call__(self, n_tags: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
        """Build with a Keras dtype policy and a seed for the initial weights."""


def _with_sigmoid(build: BuildNetwork) -> BuildBranch:
    def build_branch(n_tags: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
        return with_heads(build(n_tags, dtype=dtype, seed=seed), Heads.of_tags(n_tags))

    return build_branch


@dataclass(frozen=True)
class Branch:
    """One network of the paper. ``parameters`` counts its weights at 50 tags, batch norm's averages included."""

    name: str
    title: str
    input: BranchInput
    build: BuildBranch
    parameters: int


BRANCHES: Final[dict[str, Branch]] = {
    branch.name: branch
    for branch in (
        Branch("mel_1d", "Model 1", "log_mel", _with_sigmoid(build_mel_1d), 2_153_138),
        Branch("mel_2d", "Model 2", "log_mel", _with_sigmoid(build_mel_2d), 2_124_466),
        Branch("waveform_1d", "Model 3", "waveform", _with_sigmoid(build_waveform_1d), 783_794),
    )
}
"""In the paper's order, which is also the order of the combiner's inputs."""
