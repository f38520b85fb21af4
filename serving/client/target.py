"""Which server and which of its models, and the values that describe both."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from preprocessing.errors import BadInputError

DEFAULT_MODEL: Final = "autotag"

Transport = Literal["grpc", "rest"]

_ADDRESS: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5})(?P<path>/[\w./-]*)?"
)


@dataclass(frozen=True)
class Target:
    """A model on a server.

    Attributes:
        address: ``host:port``; over REST also ``http://host:port/path`` or ``https://...``.
        transport: what the server speaks at that port.
        model: its name there.
        version: a number; None for the newest, or where a label is given.
        label: such as ``stable`` or ``canary``.
        tls: encrypt.
        root_certificates: file (PEM) of the authorities to trust, in place of the system's; with it ``tls`` is on.

    Raises:
        BadInputError: the values contradict each other or cannot be.
    """

    address: str
    transport: Transport = "grpc"
    model: str = DEFAULT_MODEL
    version: int | None = None
    label: str | None = None
    tls: bool = False
    root_certificates: Path | None = None

    def __post_init__(self) -> None:
        match = _ADDRESS.fullmatch(self.address)
        if match is None or int(match["port"]) > 65_535:
            raise BadInputError(f"server address {self.address!r} is not HOST:PORT, such as localhost:8500")
        if self.transport not in ("grpc", "rest"):
            raise BadInputError(f"transport {self.transport!r} is neither 'grpc' nor 'rest'")
        if self.transport == "grpc" and (match["scheme"] or match["path"]):
            raise BadInputError(
                f"server address {self.address!r}: over gRPC it is HOST:PORT alone; or use transport 'rest'"
            )
        if self.version is not None and self.label is not None:
            raise BadInputError(f"version {self.version} and label {self.label!r} are both given: choose one")
        if not re.fullmatch(r"[\w.-]+", self.model) or (
            self.label is not None and not re.fullmatch(r"[\w.-]+", self.label)
        ):
            raise BadInputError(
                f"model {self.model!r}, label {self.label!r}: names have letters, digits, '.', '_' and '-'"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.tls or self.root_certificates is not None or self.address.startswith("https://")

    @property
    def url(self) -> str:
        """The model's address over REST, without a version."""
        scheme = "https" if self.encrypted else "http"
        return f"{scheme}://{self.address.split('://')[-1].rstrip('/')}/v1/models/{self.model}"

    @property
    def versioned_url(self) -> str:
        """The model's address over REST, with the version or label chosen."""
        if self.version is not None:
            return f"{self.url}/versions/{self.version}"
        return self.url if self.label is None else f"{self.url}/labels/{self.label}"

    def of_version(self, version: int) -> Target:
        """The same model, this version of it."""
        return dataclasses.replace(self, version=version, label=None)

    def root_certificate_bytes(self) -> bytes | None:
        """The authorities to trust; None for the system's.

        Raises:
            BadInputError: the file cannot be read.
        """
        if self.root_certificates is None:
            return None
        try:
            return self.root_certificates.read_bytes()
        except OSError as error:
            raise BadInputError(
                f"root certificates {self.root_certificates} cannot be read: {error.strerror}"
            ) from error

    def __str__(self) -> str:
        choice = f" version {self.version}" if self.version is not None else f" {self.label}" if self.label else ""
        return f"model {self.model!r}{choice} at {self.address} ({'gRPC' if self.transport == 'grpc' else 'REST'})"


@dataclass(frozen=True)
class VersionStatus:
    """One version of the model on the server.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: what is wrong with it; empty where nothing is.
    """

    version: int
    state: str
    error: str


@dataclass(frozen=True)
class TensorDescription:
    """Type (``DT_FLOAT``) and shape of an input or output; -1 for any size, None for any rank."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to ask the model."""

    inputs: dict[str, TensorDescription]
    outputs: dict[str, TensorDescription]
    method: str


@dataclass(frozen=True)
class ModelMetadata:
    """The version that answers, and its signatures by name."""

    version: int
    signatures: dict[str, Signature]
