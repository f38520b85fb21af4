"""Requests to a server and its response to clips, whichever transport carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

MOST_CLIPS: Final = 128
"""In one request: two bytes of ``pcm`` cost the server as much as 29.1 s, and over gRPC a tensor filled with one value
takes no more bytes than that for any number of clips. The served graph refuses more, and so does the guard."""


@dataclass(frozen=True)
class PredictRequest:
    """Byte strings for the one input of a signature; answered by a ``Response``.

    Attributes:
        signature: which.
        clips: the strings.
        version: of the model, in place of the target's own choice; None leaves it to that. Over REST, where no answer
            says which version gave it, it has to be there.
        input: the name of the signature's input.
    """

    signature: str
    clips: tuple[bytes, ...]
    version: int | None = None
    input: str = "pcm"


@dataclass(frozen=True)
class StatusRequest:
    """Which versions there are; answered by a list of ``VersionStatus``."""


@dataclass(frozen=True)
class MetadataRequest:
    """Which signatures there are; answered by ``ModelMetadata``. ``version`` as PredictRequest has it."""

    version: int | None = None


Request = PredictRequest | StatusRequest | MetadataRequest


@dataclass(frozen=True)
class Response:
    """A server's answer to one request: outputs by name, as arrays, and the version of the model that gave them."""

    outputs: Mapping[str, npt.NDArray[Any]]
    version: int
