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
        subsets: of which it is a part; empty for all.
        archive: ``zip`` or ``tar`` for an archive, which is unpacked.
        unpack_to: folder, in the data set's, that the archive is unpacked into.
        members: pattern that the whole name of an archive's member must match to be unpacked.
        lists: for a file that lists tar archives, a line each of SHA-256 and name: the address of their folder.
    """

    name: str
    url: str
    size: int | None = None
    digest: str | None = None
    published: bool = True
    subsets: tuple[str, ...] = ()
    archive: str = ""
    unpack_to: str = ""
    members: str = ""
    lists: str = ""

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
        subset: one of the data set's subsets; empty where it has none.
    """

    audio_dir: str
    annotations: str
    columns: tuple[tuple[str, str], ...] = ()
    subset: str = ""

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
class Subset:
    """A part of a data set, or one of several ways in which it is published.

    Attributes:
        title: a line of help.
        splits: published number of clips of ``train``, ``valid`` and ``test``; empty where nobody says.
        n_tags: published number of tags; 0 where nobody says.
        tags: a published list to learn, in its published order; empty where there is none.
    """

    title: str
    splits: Mapping[str, int] = field(default_factory=dict)
    n_tags: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where a data set's parts lie in the folder that ``autotag download`` fills; ``{subset}`` is the subset's name.

    Attributes:
        audio: the audio folder.
        annotations: the annotations' file or folder.
    """

    audio: str = ""
    annotations: str = "annotations_final.csv"

    def source(self, folder: str, subset: str = "") -> Source:
        """Where the data set lies that was put into a folder."""
        audio, annotations = (
            storage.join(folder, part.format(subset=subset)) if part else folder
            for part in (self.audio, self.annotations)
        )
        return Source(audio, annotations, subset=subset)


MTAT_LAYOUT: Final = Layout()
"""MagnaTagATune's, and of a table that is called so."""


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
        subsets: name -> subset; the first is the one that is meant where none is named. Empty: it has none.
        suffixes: of its files' names, in place of the annotated one, where the audio is also found in other formats.
        layout: where its parts lie in a folder of its own.
        broken: clip_id -> what is wrong with the published file.
        artists_apart: whether its publisher says that no artist is in two of its published splits.
        not_offered: what no server offers of it, and what to do; empty where all can be downloaded.
    """

    name: str
    card: Card
    read: Callable[[Source], list[AnnotatedClip]]
    rules: Mapping[str, SplitRule] = field(default_factory=lambda: SEEDED_RULES)
    remotes: tuple[Remote, ...] = ()
    tags: tuple[str, ...] = ()
    synonyms: str = ""
    takes_columns: bool = False
    subsets: Mapping[str, Subset] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    layout: Layout = MTAT_LAYOUT
    broken: Mapping[str, str] = field(default_factory=dict)
    artists_apart: bool = False
    not_offered: str = ""

    def subset_name(self, asked: str = "") -> str:
        """Return the subset's name that was asked for, or the default's; empty where the data set has none.

        Raises:
            BadInputError: it has no subset of that name.
        """
        if asked and asked not in self.subsets:
            known = f"expected one of {', '.join(self.subsets)}" if self.subsets else "it has none"
            raise BadInputError(f"subset {asked!r} of the data set {self.name!r}: {known}")
        return asked or next(iter(self.subsets), "")

    def tags_of(self, subset: str = "") -> tuple[str, ...]:
        """Return the published list of tags of a subset, or of the data set; empty where there is none.

        Raises:
            BadInputError: it has no subset of that name.
        """
        name = self.subset_name(subset)
        return self.subsets[name].tags if name else self.tags

    def remotes_of(self, subset: str = "") -> tuple[Remote, ...]:
        """Return the files on servers that a subset needs.

        Raises:
            BadInputError: it has no subset of that name.
        """
        name = self.subset_name(subset)
        return tuple(remote for remote in self.remotes if not remote.subsets or name in remote.subsets)


DEFAULT: Final = "default"
"""In place of a file of synonyms or tags: the data set's own."""
