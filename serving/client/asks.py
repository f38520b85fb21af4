"""What is asked of a server, independent of how it travels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictAsk:
    """Clips for a signature whose one input is named ``pcm``; answered by an ``Answer``."""

    signature: str
    clips: tuple[bytes, ...]


@dataclass(frozen=True)
class StatusAsk:
    """Which versions there are; answered by a list of ``VersionStatus``."""


@dataclass(frozen=True)
class MetadataAsk:
    """Which signatures there are; answered by ``ModelMetadata``."""


Ask = PredictAsk | StatusAsk | MetadataAsk
