"""Which tags are of instruments, voices, genres, moods and tempo, by their names."""

from __future__ import annotations

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(" ".join(name.split()) for name in text.split(","))


GROUPS: Final[dict[str, frozenset[str]]] = {
    "instrument": _names(
        """guitar, strings, drums, piano, violin, synth, flute, sitar, harpsichord, cello, harp, solo, bass,
        trumpet, saxophone, organ, electric guitar, acoustic guitar, classical guitar, percussion,
        keyboard, violins, drum, string, synthesizer, horn, horns, clarinet, oboe, viola, lute, banjo,
        fiddle, sax, flutes, guitars, bells, chimes, bongos, woodwind, wind, plucking, piano solo, harpsicord,
        orchestra, orchestral, no piano, no guitar, no strings, no violin, no flute, no drums"""
    ),
    "voice": _names(
        """vocal, vocals, female, woman, male, singing, no vocals, male vocal, female vocal, no vocal, male
        voice, female voice, choir, choral, opera, man, no voice, voice, female vocals, male vocals,
        female vocalists, male vocalists, singer, voices, men, women, girl, duet, chorus, soprano, operatic,
        female opera, male opera, female singer, female singing, woman singing, male singer, man singing,
        no singer, no singing, no voices, not opera, chant, chanting, monks, talking"""
    ),
    "genre": _names(
        """classical, classic, techno, electronic, rock, indian, ambient, new age, pop, dance, country, metal,
        jazz, hip-hop, folk, blues, punk, soul, rnb, alternative, indie, house, electro, hard rock,
        heavy metal, alternative rock, indie rock, classic rock, indie pop, progressive rock,
        experimental, funk, electronica, electropop, singer-songwriter, chillout, reggae, disco,
        instrumental, acoustic, hip hop, world, latin, clasical, baroque, medieval, jazzy, funky, soft rock,
        trance, industrial, jungle, rap, celtic, irish, spanish, india, arabic, eastern, oriental,
        middle eastern, tribal, not classical, not rock"""
    ),
    "mood": _names(
        """quiet, loud, soft, weird, mellow, sad, chill, party, sexy, catchy, beautiful, easy listening, happy,
        dark, relaxing, energetic, calm, silence, strange, eerie, scary, spacey, space, airy, light, hard,
        heavy, upbeat"""
    ),
    "tempo": _names("slow, fast, beat, beats, quick, fast beat, no beat"),
    "decade": _names("60s, 70s, 80s, 90s, 00s, oldies"),
}
"""Group -> names: Last.fm's top 50, and of MagnaTagATune's 188 all that say one of these things."""

OTHER: Final = "other"

_PREFIXES: Final = {"genre": "genre", "instrument": "instrument", "mood/theme": "mood", "mood": "mood"}
"""What stands before three dashes in MTG-Jamendo's tags -> group."""

_GROUP_OF: Final = {name: group for group, names in GROUPS.items() for name in names}


def tag_group(tag: str) -> str:
    """Return a tag's group, ``other`` for one that no group names.

    Args:
        tag: as a data set writes it; a category before three dashes (``genre---rock``) decides where it is known.
    """
    category, dashes, name = tag.lower().partition("---")
    if dashes and category in _PREFIXES:
        return _PREFIXES[category]
    return _GROUP_OF.get((name if dashes else tag.lower()).strip(), OTHER)
