"""Where a field stands in a file of each format, so that players read it.

=========  =====================  ==============  ============================
field      ID3v2                  Vorbis comment  MP4
=========  =====================  ==============  ============================
genre      TCON                   GENRE           ©gen
mood       TMOO, or TXXX:MOOD     MOOD            ----:com.apple.iTunes:MOOD
grouping   TIT1, or GRP1          GROUPING        ©grp
comment    COMM without a name    COMMENT         ©cmt
any other  TXXX of that name      that name       ----:com.apple.iTunes: and it
=========  =====================  ==============  ============================

These are MusicBrainz Picard's places (picard-docs, appendix B). Where a file has a field in the second place already,
it is read and written there: mood by programs that write ID3v2.3, which has no TMOO, grouping by iTunes and Music. A
comment keeps its language and is else in English, where iTunes and Windows look for it.

ID3v2.3 has no several values in a text frame; many programs write them all the same, with NUL between them, others put
"/" there. A field that has them keeps them so; else serving.tagging.mapping joins the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mutagen.aiff import AIFF
from mutagen.flac import FLAC
from mutagen.id3 import COMM, GRP1, TCON, TIT1, TMOO, TXXX, Encoding  # type: ignore[attr-defined]
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, AtomDataType, MP4FreeForm
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

GENRE: Final = "genre"
MOOD: Final = "mood"
GROUPING: Final = "grouping"
COMMENT: Final = "comment"
PLAYERS_FIELDS: Final = (GENRE, MOOD, GROUPING, COMMENT)
"""Fields that have a place of their own in each format; all others are ours."""

ID3_FILES: Final = (MP3, WAVE, AIFF)
VORBIS_FILES: Final = (FLAC, OggVorbis, OggOpus, OggFLAC)
ITUNES: Final = "----:com.apple.iTunes:"

_ID3_PLACES: Final = {GENRE: "TCON", MOOD: "TMOO", GROUPING: "TIT1"}
_HELD_ID3_PLACES: Final = {MOOD: ("TMOO", "TXXX:MOOD"), GROUPING: ("GRP1", "TIT1")}
"""Looked at in this order."""
_MP4_PLACES: Final = {GENRE: "\xa9gen", GROUPING: "\xa9grp", COMMENT: "\xa9cmt", MOOD: f"{ITUNES}MOOD"}
_FRAMES: Final = {"TCON": TCON, "TMOO": TMOO, "TIT1": TIT1, "GRP1": GRP1}
_COMMENT_PLACE: Final = "COMM::eng"


def get_field(file: Any, field: str) -> tuple[str, ...]:
    """Return a field's values in an opened mutagen file, as they stand there."""
    held = file.tags.get(_key(file, field)) or []
    if isinstance(file, ID3_FILES):
        return tuple(value for value in getattr(held, "text", []) if value)
    return tuple(bytes(value).decode("utf-8", "replace") if isinstance(value, bytes) else value for value in held)


def set_field(file: Any, field: str, values: Sequence[str]) -> None:
    """Put values into a field of an opened mutagen file in place of what is there; without values it goes."""
    tags, key = file.tags, _key(file, field)
    language = getattr(tags.get(key), "lang", "eng")
    if key in tags:
        del tags[key]
    if not values:
        return
    if isinstance(file, ID3_FILES):
        tags.add(_frame(key, field, language, list(values)))
    elif isinstance(file, MP4) and key.startswith(ITUNES):
        tags[key] = [_free_form(value) for value in values]
    else:
        tags[key] = list(values)


def takes_several(file: Any, field: str) -> bool:
    """Whether players tell several values of a field apart in this file."""
    if field == COMMENT:
        return False
    tags: Any = file.tags
    older = isinstance(file, ID3_FILES) and tags.version[:2] == (2, 3)
    return not older or field not in PLAYERS_FIELDS or len(get_field(file, field)) > 1


def genre_names(values: Sequence[str]) -> tuple[str, ...]:
    """Return genres by name: ID3's old numbers, ``(17)`` or ``17``, are names; what is unknown stays."""
    names: list[str] = []
    for value in values:
        known = TCON(text=[value]).genres  # type: ignore[no-untyped-call]
        names += known if known and "Unknown" not in known else [value]
    return tuple(names)


def _key(file: Any, field: str) -> str:
    if isinstance(file, ID3_FILES):
        return _id3_key(file.tags, field)
    if isinstance(file, MP4):
        return _MP4_PLACES.get(field, ITUNES + field)
    return field


def _id3_key(tags: Any, field: str) -> str:
    if field == COMMENT:
        held = sorted(key for key in tags if key.startswith("COMM::"))
        return _COMMENT_PLACE if _COMMENT_PLACE in held or not held else held[0]
    place = _ID3_PLACES.get(field, f"TXXX:{field}")
    there: dict[str, str] = {key.upper(): key for key in tags}
    return next((there[other] for other in _HELD_ID3_PLACES.get(field, ()) if other in there), place)


def _frame(key: str, field: str, language: str, values: list[str]) -> Any:
    if field == COMMENT:
        return COMM(encoding=Encoding.UTF8, lang=language, desc="", text=values)  # type: ignore[no-untyped-call]
    if key.startswith("TXXX:"):
        name = key.removeprefix("TXXX:")
        return TXXX(encoding=Encoding.UTF8, desc=name, text=values)  # type: ignore[no-untyped-call]
    return _FRAMES[key](encoding=Encoding.UTF8, text=values)  # type: ignore[no-untyped-call]


def _free_form(value: str) -> MP4FreeForm:
    return MP4FreeForm(value.encode(), dataformat=AtomDataType.UTF8)  # type: ignore[no-untyped-call]
