"""What is asked of a server, independent of how it travels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictAsk:
    """Clips for a signature whose one input is named ``pcm``; answered by an ``Answer``.

    ``version``: of the model, in place of the target's own choice; None leaves it to that. Over REST, where no answer
    says which version gave it, it has to be there.
    """

    signature: str
    clips: tuple[bytes, ...]
    version: int | None = None


@dataclass(frozen=True)
class StatusAsk:
    """Which versions there are; answered by a list of ``VersionStatus``."""


@dataclass(frozen=True)
class MetadataAsk:
    """Which signatures there are; answered by ``ModelMetadata``."""


Ask = PredictAsk | StatusAsk | MetadataAsk
