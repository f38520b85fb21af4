"""What a served model says of itself: its card, asked once a version through the signature ``model_card``.

From it the client knows what the model takes as one clip, at which rate, and how its tags are decided.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from serving.client.errors import BadResponseError
from serving.client.requests import Response
from serving.model_info import ModelInfo

CARD_SIGNATURE: Final = "model_card"
CARD_INPUT: Final = "request"


@dataclass(frozen=True)
class Card:
    """What is known of one version.

    Attributes:
        version: its number on the server.
        info: its model card; None where the model was pushed before models had that signature: it takes 29.1 s at
            16 kHz and has one list of tags, each decided by its threshold.
    """

    version: int
    info: ModelInfo | None

    @property
    def clip(self) -> ClipFormat:
        """What the model takes as one window."""
        return PAPER_CLIP if self.info is None else self.info.clip

    @property
    def heads(self) -> Heads | None:
        """Slices of the tags; None where they are one list."""
        return None if self.info is None else self.info.heads

    def decide(
        self, probabilities: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        """Say which tags count as heard: bool, of the shape of the probabilities."""
        return (self.heads or Heads.of_tags(len(thresholds))).decide(probabilities, thresholds)

    def fits(self, other: Card) -> bool:
        """Whether what was made ready for one is right for the other, too."""
        return self.clip == other.clip and self.heads == other.heads


def read_card(response: Response) -> ModelInfo:
    """Read the ``model_card`` signature's answer to one request.

    Raises:
        BadResponseError: it is no card, or one of another version of autotag.
    """
    try:
        (text,) = response.outputs[CARD_SIGNATURE].tolist()
        return ModelInfo.from_json(text if isinstance(text, str) else bytes.decode(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadResponseError(
            f"the card of the served model is not one that this version of autotag reads: {error}. "
            "Use the version of autotag that pushed the model, or push it again with this one"
        ) from error


class KnownCards:
    """The cards met so far; may be shared by threads."""

    def __init__(self) -> None:
        self._cards: dict[int, Card] = {}
        self._latest: Card | None = None
        self._lock = threading.Lock()

    def add(self, card: Card) -> None:
        """Keep a card, as that of the version that answered last."""
        with self._lock:
            self._cards[card.version] = self._latest = card

    def find(self, version: int | None) -> Card | None:
        """Return the card of a version, or, without one, of the version that answered last; None: not known."""
        with self._lock:
            return self._latest if version is None else self._cards.get(version)
