"""The embedding of what is not in an index: another file, or what is heard around one second of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.audio.stretches import Stretch, parse_stretch
from preprocessing.errors import BadInputError, ClipError
from preprocessing.names import escaped
from serving.library.index_file import IndexCard
from serving.library.neighbours import Vectors
from serving.model_versions import find_model
from serving.pretrained.catalogue import CATALOGUE
from serving.tagging.models import model_folder
from serving.tagging.sources import LocalModel, TagSource
from serving.tagging.tagger import Tagger

AROUND_SECONDS: Final = 10.0
"""That are heard where one second was meant, half of them before it; less where a model takes shorter windows."""


@dataclass(frozen=True)
class Heard:
    """What a model hears.

    Attributes:
        embedding: float32 [size], mean over the windows that are not silent.
        probabilities: float32 [n_tags], likewise.
        seconds: heard.
    """

    embedding: Vectors
    probabilities: Vectors
    seconds: float


class SongListener:
    """Hears files with the model of an index. For one thread at a time.

    Args:
        source: loaded with its embeddings.
        card: of the index that is asked afterwards.
        index: the index, for the message.
        asked: through whom the model is asked, as in turns with others; itself unless given.

    Raises:
        BadInputError: it is another model than the index's.
    """

    def __init__(self, source: LocalModel, card: IndexCard, index: Path, asked: TagSource | None = None) -> None:
        card.check_same(source.digest, source.name, index)
        self._source: TagSource = asked or source

    def listen(self, path: Path, at: float | None = None, name: str = "") -> Heard:
        """Hear a whole file, or what is around a second of it.

        Args:
            path: of the file.
            at: the second.
            name: what to call the file in messages; its path unless given.

        Raises:
            ClipError: it cannot be decoded.
            BadInputError: there is no such second, or nothing to hear; or the model gives no embeddings.
        """
        stretch, called = None, Path(name or path)
        if at is not None:
            around = min(AROUND_SECONDS, self._source.clip.seconds)
            stretch = Stretch(max(0.0, at - around / 2), around)
        try:
            song = Tagger(self._source, jobs=1, stretch=stretch, places={called: path}).tag_file(called)
        except ClipError as error:
            if error.kind == "no_part":
                raise BadInputError(_ended(called, at)) from error
            raise
        if at is not None and song.end < at:
            raise BadInputError(_ended(called, at))
        if song.silent:
            where = "" if at is None else f" around {at:g} s"
            raise BadInputError(f"{escaped(called)}: there is nothing to hear{where}, so that nothing is like it")
        if song.embedding is None:
            raise BadInputError(f"{song.source} was loaded without its embeddings")
        return Heard(song.embedding, song.probabilities, song.seconds)


def _ended(path: Path, at: float | None) -> str:
    return f"{escaped(path)} has no second {at:g}: it ends before"


def load_model(name: str, engine: str, say: Callable[[str], None]) -> LocalModel:
    """Load a model with its embeddings.

    Args:
        name: as serving.tagging.models.model_folder has it; of a folder of versions the newest is taken, and the model
            is called as that version's folder, so that it is found again when there are newer ones.
        engine: one of EMBEDDING_ORDER, or "auto".
        say: takes the line that says what is fetched.

    Raises:
        BadInputError: there is no such model, or it gives no embeddings.
    """
    folder = model_folder(name, say)
    listed = name in CATALOGUE and not Path(name).is_dir()
    called = name if listed else str(find_model(folder).absolute())
    return LocalModel(folder, engine, name=called, embeddings=True)


def parse_second(text: str) -> float:
    """Parse a place in a song, ``65``, ``1:05`` or ``1:02:30``, as seconds.

    Raises:
        BadInputError: it is none.
    """
    try:
        where = parse_stretch(f"{text}:1").where
    except BadInputError:
        where = text
    if not isinstance(where, float):
        raise BadInputError(f"{text!r} is no place in a song: give seconds, minutes:seconds or hours:minutes:seconds")
    return where
