"""Files that lie on servers: where, how large, with which checksum. Needs no HTTP client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        name: its name in the folder.
        url: where it is published.
        size: bytes, where its publisher states them; another length is then an error.
        digest: ``md5:HEX``, ``sha1:HEX``, ``sha256:HEX`` or ``git:HEX``, where its publisher states it.
    """

    name: str
    url: str
    size: int | None = None
    digest: str | None = None
