"""What gives the answers: a model in this process, or one that a server has."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.audio.samples import Samples, from_pcm, to_pcm
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import AutotagError
from serving.engines.runtimes import AUTO, load_embedding_engine, load_engine, usable_cores
from serving.model_info import MODEL_INFO_NAME, read_model_info
from serving.model_versions import find_model

if TYPE_CHECKING:
    from serving.client import TagClient

WINDOWS_AT_ONCE: Final = min(8, max(4, usable_cores()))
"""Most windows in one call of the model: one a core, and some where there are few cores."""

Probabilities = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What a model says of a batch of windows.

    Attributes:
        tags: their names, in the order of the probabilities.
        thresholds: float32 [n_tags], from which probability on a tag counts as heard.
        probabilities: float32 [n, n_tags].
        model: identity of what gave them, as TagSource has it.
        heads: slices of the tags, by which they are decided; None where a server's model does not tell them, and each
            tag's threshold decides.
        embeddings: float32 [n, size], what the model's last layer reads; None where the source gives none.
    """

    tags: tuple[str, ...]
    thresholds: Probabilities
    probabilities: Probabilities
    model: str
    heads: Heads | None = None
    embeddings: Vectors | None = None


class TagSource(Protocol):
    """Whoever turns windows into probabilities."""

    name: str
    """What people call it."""

    calls_at_once: int
    """How many threads may call ``answer`` at a time."""

    tags: tuple[str, ...] | None
    """Those of its answers; None where only an answer tells."""

    @property
    def clip(self) -> ClipFormat:
        """What it takes as one window."""
        ...

    def identity(self) -> str:
        """Return what tells this model from others, one line: the same for as long as the answers stay the same.

        It is the identity of what would answer now; each answer says which one gave it.
        """
        ...

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate, as decoded: beyond [-1, 1] where an encoder overshot.

        Returns answers of n rows.
        """
        ...


def model_digest(model_dir: Path) -> str:
    """Return 16 hexadecimal digits that tell a version from all others, whatever computes it.

    Of the card and of the checkpoint's index, which holds a checksum of each weight.

    Raises:
        OSError: there is none.
    """
    digest = hashlib.sha256()
    for name in (MODEL_INFO_NAME, "variables/variables.index"):
        digest.update((model_dir / name).read_bytes())
    return digest.hexdigest()[:16]


class LocalModel:
    """A pushed model, loaded in this process.

    Args:
        model_dir: a SavedModel of serving.graph.export, or a folder of numbered versions (the highest is taken).
        engine: what computes, a name that serving.engines.runtimes knows; "auto" is the fastest one for this model.
        threads: of the engine; None leaves it to the engine.
        name: what people call the model; else the folder as it was given.
        embeddings: whether answers carry them; of the engines only some give them
            (serving.engines.runtimes.EMBEDDING_ORDER), and "auto" is then the fastest of these.

    Raises:
        BadInputError: there is no such model, or it cannot be loaded.
    """

    calls_at_once = 1  # an engine uses all cores by itself

    def __init__(
        self,
        model_dir: Path | str,
        engine: str = AUTO,
        threads: int | None = None,
        name: str | None = None,
        embeddings: bool = False,
    ) -> None:
        self.name = name or str(model_dir)
        self.model_dir = find_model(Path(model_dir))
        self.info = read_model_info(self.model_dir)
        self.tags: tuple[str, ...] | None = self.info.tags
        self.clip = self.info.clip
        self._thresholds = np.asarray(self.info.thresholds, dtype=np.float32)
        self._embedding = load_embedding_engine(self.model_dir, engine, threads) if embeddings else None
        self._engine = self._embedding or load_engine(self.model_dir, engine, threads)
        self.digest = model_digest(self.model_dir)
        self._identity = f"autotag {self.digest} {self._engine.name}-{self._engine.precision}"

    @functools.cached_property
    def embedding_size(self) -> int:
        """Numbers in an embedding; 0 where answers carry none."""
        if self._embedding is None:
            return 0
        return self._embedding.embed(np.zeros((1, self.clip.samples), np.float32))[1].shape[1]

    def identity(self) -> str:
        """Digest of the model card and of its weights, and what computes: the engine and its arithmetic."""
        return self._identity

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate -> answers of n rows.

        A model that was trained here hears what is stored, 16 bits with the peaks clipped. Those of others were trained
        on what their decoder gave, and clipping the overshoot of a loud MP3 changes a tag by up to 0.06 (musicnn;
        benchmarks/pretrained.py).
        """
        heard = from_pcm(to_pcm(windows)) if self.info.origin is None else windows
        rows, vectors = (self._engine.predict(heard), None) if self._embedding is None else self._embedding.embed(heard)
        return Answers(self.info.tags, self._thresholds, rows, self._identity, self.info.heads, vectors)


class ServedModel:
    """A pushed model behind TF Serving, asked through a client.

    Args:
        client: for the server and its model; closing it is the caller's.
        address: of the server, and of the model on it where that was chosen.
        calls_at_once: requests under way at a time.
    """

    tags: tuple[str, ...] | None = None

    def __init__(self, client: TagClient, address: str, calls_at_once: int) -> None:
        self.name = address
        self.calls_at_once = calls_at_once
        self._client = client

    @functools.cached_property
    def clip(self) -> ClipFormat:
        """What the model takes as one window, of the version that answers when this is first asked.

        Raises:
            TagServerError: the server does not say.
        """
        return self._client.card().clip

    def identity(self) -> str:
        """Return the server's address and the version that answers.

        Raises:
            TagServerError: the server does not say.
        """
        return self._of_version(self._client.metadata().version)

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate -> answers of n rows, all of one version.

        Raises:
            TagServerError: see serving.client.errors.
            AutotagError: a version came that takes other clips.
        """
        clips = self._client.tag_pcm([to_pcm(window).tobytes() for window in windows])
        first = clips[0]
        card = self._client.card(first.version)
        if card.clip != self.clip:
            raise AutotagError(
                f"{self._of_version(first.version)} takes clips of {card.clip.seconds:g} s at {card.clip.sample_rate} "
                f"Hz, and the version before it {self.clip.seconds:g} s at {self.clip.sample_rate} Hz: call again"
            )
        rows = np.stack([clip.probabilities for clip in clips])
        return Answers(first.tags, first.thresholds, rows, self._of_version(first.version), card.heads)

    def _of_version(self, version: int) -> str:
        return f"{self.name} version {version}"
