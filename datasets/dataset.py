"""What a data set is to the rest: a card, files on servers, a reader that yields clips, rules to divide them.

A new data set is one module that makes a ``Dataset``, and one entry in ``datasets.registry``. Its module's docstring is
its card for people; ``Card`` says the same to programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.remotes import RemoteFile
from preprocessing.splits import SEEDED_RULES, SplitRule


@dataclass(frozen=True)
class Card:
    """What people must know before they use a data set.

    Attributes:
        title: its name.
        sources: addresses of its publisher.
        licence: of annotations and audio.
        counts: what it holds: clips, tracks, artists, tags ...; empty where that depends on who made it.
        citation: of the paper to cite; empty where there is none.
    """

    title: str
    sources: tuple[str, ...]
    licence: str
    counts: Mapping[str, int]
    citation: str


@dataclass(frozen=True)
class Remote:
    """A file of the data set on its publisher's server.

    Attributes:
        name: of the file.
        url: where it is published.
        size: in bytes; None where nobody says.
        digest: ``sha256:HEX`` or another algorithm's; None where nobody says.
        published: whether size and digest are the publisher's word. What others found serves to plan and to remark.
    """

    name: str
    url: str
    size: int | None = None
    digest: str | None = None
    published: bool = True

    @property
    def file(self) -> RemoteFile:
        """The file for a download, which refuses what differs from its publisher's word."""
        return RemoteFile(self.name, self.url, *((self.size, self.digest) if self.published else ()))


@dataclass(frozen=True)
class Source:
    """Where a data set lies.

    Attributes:
        audio_dir: folder that the clips' paths are relative to.
        annotations: the file, or folder of files, that its publisher describes the clips in.
        columns: (role, column) pairs with which a person says what a table's columns are; most data sets take none.
    """

    audio_dir: str
    annotations: str
    columns: tuple[tuple[str, str], ...] = ()

    def read(self, *names: str) -> bytes:
        """Read the annotations, or a file in their folder.

        Raises:
            BadInputError: it cannot be read.
        """
        path = storage.join(self.annotations, *names) if names else self.annotations
        try:
            return storage.read_bytes(path)
        except OSError as error:
            raise BadInputError(f"annotations {path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: by which settings refer to it.
        card: what people must know.
        read: gives every clip of the annotations, in their order; raises BadInputError on the first thing that is
            wrong. Whether the audio is there is no concern of its.
        rules: name -> rule to divide its clips: those for any data set and its own.
        remotes: its files on servers.
        tags: a published list to learn, in its published order; empty where there is none.
        synonyms: file in this package that says which of its tags mean the same; empty where there is none.
        takes_columns: whether it looks at ``Source.columns``.
    """

    name: str
    card: Card
    read: Callable[[Source], list[AnnotatedClip]]
    rules: Mapping[str, SplitRule] = field(default_factory=lambda: SEEDED_RULES)
    remotes: tuple[Remote, ...] = ()
    tags: tuple[str, ...] = ()
    synonyms: str = ""
    takes_columns: bool = False


DEFAULT: Final = "default"
"""In place of a file of synonyms or tags: the data set's own."""
