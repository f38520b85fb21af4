"""Styles: who plays what, how fast and how loud, and which tags that carries.

A style is one arrangement; weights follow MagnaTagATune's tag counts, with its rare tags lifted so that a small corpus
has examples of each of the 50 most frequent ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SLOW_BELOW: Final = 80.0
FAST_FROM: Final = 136.0
"""Beats a minute."""
QUIET_BELOW: Final = -27.5
SOFT_BELOW: Final = -23.5
LOUD_FROM: Final = -12.5
"""RMS of the master in dB below full scale."""


@dataclass(frozen=True)
class Part:
    """One player or singer of an arrangement.

    Attributes:
        instrument: name in INSTRUMENTS, SINGERS or KITS.
        role: name in ROLES.
        level: dB against the other parts.
        presence: probability that the part plays in a passage.
    """

    instrument: str
    role: str
    level: float = 0.0
    presence: float = 1.0


@dataclass(frozen=True)
class Style:
    """An arrangement with its ranges.

    Attributes:
        name: of the style and the ensemble.
        scene: artists play styles of one scene.
        weight: share of the tracks, relative.
        parts: who plays.
        tempo: lowest and highest, beats a minute.
        level: lowest and highest RMS of the master, dB.
        scales: names in SCALES.
        room: shortest and longest reverberation time, seconds.
        genres: tag -> probability that a track of this style deserves it.
        leading: whether the style is among those that the smallest corpora start with.
    """

    name: str
    scene: str
    weight: float
    parts: tuple[Part, ...]
    tempo: tuple[float, float]
    level: tuple[float, float]
    scales: tuple[str, ...] = ("major", "minor")
    room: tuple[float, float] = (0.5, 1.4)
    genres: Mapping[str, float] = field(default_factory=dict)
    leading: bool = False


CLASSICAL: Final = {"classical": 1.0, "classic": 1.0}
ELECTRONIC: Final = {"electronic": 1.0, "electro": 0.2, "electronica": 0.2}
P = Part

STYLES: Final[tuple[Style, ...]] = (
    # Baroque and classical.
    Style(
        "harpsichord_sonata",
        "classical",
        3.0,
        (P("harpsichord", "runs"), P("harpsichord", "chords", -4), P("cello", "bass_line", -1, 0.8)),
        (70, 165),
        (-25, -17),
        genres={**CLASSICAL, "baroque": 0.3},
    ),
    Style(
        "harpsichord_solo",
        "classical",
        2.2,
        (P("harpsichord", "runs"), P("harpsichord", "arpeggio", -3)),
        (80, 170),
        (-26, -16),
        genres={**CLASSICAL, "baroque": 0.3},
        leading=True,
    ),
    Style(
        "violin_and_harpsichord",
        "classical",
        2.0,
        (P("violin", "runs"), P("harpsichord", "chords", -2)),
        (70, 165),
        (-24, -16),
        genres={**CLASSICAL, "baroque": 0.3},
    ),
    Style(
        "flute_and_harpsichord",
        "classical",
        1.5,
        (P("flute", "melody"), P("harpsichord", "arpeggio", -3)),
        (70, 150),
        (-26, -18),
        genres={**CLASSICAL, "baroque": 0.3},
    ),
    Style(
        "string_quartet",
        "classical",
        3.5,
        (
            P("violin", "melody"),
            P("violin", "long_line", -4),
            P("cello", "melody", -1),
            P("string_section", "chords", -8, 0.5),
        ),
        (60, 160),
        (-27, -15),
        room=(0.8, 2.0),
        genres={**CLASSICAL, "orchestra": 0.15},
        leading=True,
    ),
    Style(
        "string_orchestra",
        "classical",
        2.5,
        (P("string_section", "chords"), P("violin", "melody", 0, 0.6), P("flute", "melody", -1, 0.4)),
        (55, 140),
        (-27, -14),
        room=(1.2, 2.5),
        genres={**CLASSICAL, "orchestra": 0.4, "orchestral": 0.2},
    ),
    Style(
        "cello_solo",
        "classical",
        2.4,
        (P("cello", "melody"),),
        (55, 120),
        (-30, -19),
        ("minor",),
        (0.8, 2.0),
        CLASSICAL,
    ),
    Style(
        "violin_solo",
        "classical",
        2.6,
        (P("violin", "runs"),),
        (60, 150),
        (-27, -17),
        room=(0.6, 1.8),
        genres=CLASSICAL,
    ),
    Style(
        "piano_solo",
        "classical",
        4.2,
        (P("piano", "melody"), P("piano", "arpeggio", -4)),
        (55, 165),
        (-33, -17),
        genres={"classical": 0.75, "classic": 0.75, "jazz": 0.1},
    ),
    Style(
        "guitar_solo",
        "classical",
        2.6,
        (P("acoustic_guitar", "arpeggio"), P("acoustic_guitar", "long_line", 1)),
        (60, 140),
        (-31, -19),
        genres={"classical": 0.7, "classic": 0.7, "spanish": 0.2},
    ),
    Style(
        "harp_solo",
        "classical",
        3.4,
        (P("harp", "glissando"),),
        (55, 110),
        (-33, -22),
        ("major", "pentatonic"),
        (1.0, 2.4),
        {"classical": 0.5, "new age": 0.3},
    ),
    # Sung classical music.
    Style(
        "soprano_aria",
        "stage",
        3.9,
        (P("soprano", "song", 2, 0.95), P("string_section", "chords", -3)),
        (55, 110),
        (-25, -14),
        room=(1.2, 2.4),
        genres={"opera": 1.0, "classical": 0.7},
        leading=True,
    ),
    Style(
        "tenor_aria",
        "stage",
        3.1,
        (P("tenor", "song", 2, 0.95), P("string_section", "pulse", -3), P("flute", "melody", -5, 0.3)),
        (55, 125),
        (-25, -14),
        room=(1.2, 2.4),
        genres={"opera": 1.0, "classical": 0.7},
    ),
    Style(
        "lied",
        "stage",
        1.6,
        (P("soprano", "song", 1), P("piano", "arpeggio", -2)),
        (60, 110),
        (-27, -17),
        genres={"opera": 0.7, "classical": 0.8},
    ),
    Style(
        "mixed_choir",
        "stage",
        4.4,
        (P("women_choir", "chords"), P("men_choir", "chords", -1)),
        (52, 90),
        (-30, -17),
        room=(2.0, 3.4),
        genres={"choir": 1.0, "choral": 1.0, "classical": 0.6, "chorus": 0.2},
        leading=True,
    ),
    Style(
        "monks",
        "stage",
        2.4,
        (P("men_choir", "long_line"), P("men_choir", "drone", -6, 0.5)),
        (50, 76),
        (-31, -19),
        ("minor",),
        (2.2, 3.6),
        {"choir": 1.0, "choral": 0.9, "chant": 0.2, "monks": 0.2},
    ),
    Style(
        "choir_and_organ",
        "stage",
        2.4,
        (P("women_choir", "chords"), P("organ", "chords", -3)),
        (56, 96),
        (-26, -15),
        room=(1.8, 3.2),
        genres={"choir": 1.0, "choral": 1.0, "classical": 0.6},
    ),
    # Indian.
    Style(
        "sitar_and_tabla",
        "indian",
        4.4,
        (P("sitar", "runs"), P("sitar", "drone", -6), P("tabla", "tintal", -3, 0.85)),
        (70, 150),
        (-24, -15),
        ("raga",),
        (0.4, 1.2),
        {"indian": 1.0, "india": 0.15, "eastern": 0.15},
        leading=True,
    ),
    Style(
        "sitar_alap",
        "indian",
        2.4,
        (P("sitar", "melody"), P("sitar", "drone", -4)),
        (50, 80),
        (-29, -19),
        ("raga",),
        (0.8, 2.0),
        {"indian": 1.0, "eastern": 0.15},
    ),
    Style(
        "bansuri",
        "indian",
        1.6,
        (P("flute", "melody"), P("sitar", "drone", -3), P("tabla", "tintal", -3, 0.7)),
        (60, 120),
        (-27, -17),
        ("raga",),
        (0.8, 2.0),
        {"indian": 1.0, "oriental": 0.15},
    ),
    # Rock and metal.
    Style(
        "metal_band",
        "rock",
        4.6,
        (
            P("electric_guitar", "power_chords", 1),
            P("bass_guitar", "bass_line", -3),
            P("acoustic_kit", "metal_beat", 0),
        ),
        (140, 190),
        (-13, -9),
        ("minor", "blues"),
        (0.3, 0.8),
        {"metal": 1.0, "rock": 0.7, "heavy metal": 0.2, "hard rock": 0.2, "heavy": 0.2},
    ),
    Style(
        "metal_with_shouter",
        "rock",
        2.4,
        (
            P("shouter", "song", 3, 0.9),
            P("electric_guitar", "power_chords", 0),
            P("bass_guitar", "bass_line", -3),
            P("acoustic_kit", "metal_beat", -1),
        ),
        (132, 185),
        (-13, -9),
        ("minor", "blues"),
        (0.3, 0.8),
        {"metal": 1.0, "rock": 1.0, "heavy metal": 0.2, "hard": 0.2},
        leading=True,
    ),
    Style(
        "rock_band",
        "rock",
        6.0,
        (
            P("male", "song", 4, 0.85),
            P("electric_guitar", "power_chords", -1),
            P("bass_guitar", "bass_line", -2),
            P("acoustic_kit", "rock_beat"),
        ),
        (95, 150),
        (-17, -11),
        ("major", "blues"),
        (0.4, 1.0),
        {"rock": 1.0, "hard rock": 0.1, "pop": 0.1, "punk": 0.1},
    ),
    Style(
        "rock_instrumental",
        "rock",
        3.2,
        (
            P("electric_guitar", "melody", 1),
            P("electric_guitar", "power_chords", -2),
            P("bass_guitar", "bass_line", -2),
            P("acoustic_kit", "rock_beat"),
        ),
        (95, 150),
        (-17, -11),
        ("minor", "blues"),
        (0.4, 1.0),
        {"rock": 1.0, "instrumental": 0.2},
    ),
    # Songs.
    Style(
        "pop_song_woman",
        "songs",
        3.4,
        (
            P("female", "song", 4, 0.95),
            P("piano", "chords", -2),
            P("synth_bass", "bass_line", -4),
            P("acoustic_kit", "pop_beat", -1),
        ),
        (90, 130),
        (-18, -12),
        genres={"pop": 1.0, "upbeat": 0.15},
        leading=True,
    ),
    Style(
        "pop_song_man",
        "songs",
        2.6,
        (
            P("male", "song", 4, 0.95),
            P("synth_pad", "chords", -4),
            P("acoustic_guitar", "strum", -2),
            P("acoustic_kit", "pop_beat", -1),
        ),
        (90, 130),
        (-18, -12),
        ("major",),
        genres={"pop": 1.0, "upbeat": 0.15},
    ),
    Style(
        "country_band",
        "songs",
        4.0,
        (
            P("male", "song", 4, 0.85),
            P("acoustic_guitar", "strum", -1),
            P("steel_guitar", "melody", -2),
            P("bass_guitar", "bass_line", -4),
            P("acoustic_kit", "train_beat", -5),
        ),
        (95, 140),
        (-20, -14),
        ("major",),
        (0.3, 0.8),
        {"country": 1.0, "folk": 0.2},
        leading=True,
    ),
    Style(
        "hoedown",
        "songs",
        3.4,
        (
            P("banjo", "runs"),
            P("fiddle", "melody", 0, 0.8),
            P("acoustic_guitar", "strum", -3),
            P("steel_guitar", "melody", -5, 0.4),
        ),
        (110, 165),
        (-21, -14),
        ("major", "pentatonic"),
        (0.3, 0.8),
        {"country": 1.0, "folk": 0.3, "fiddle": 0.2},
    ),
    Style(
        "folk_singer_woman",
        "songs",
        2.0,
        (P("female", "song", 4), P("acoustic_guitar", "arpeggio", -1)),
        (65, 110),
        (-28, -18),
        genres={"folk": 0.3, "pop": 0.3, "country": 0.15},
    ),
    Style(
        "folk_singer_man",
        "songs",
        2.0,
        (P("male", "song", 4), P("acoustic_guitar", "strum", -1)),
        (65, 115),
        (-27, -18),
        genres={"folk": 0.3, "pop": 0.3, "country": 0.25},
    ),
    # Machines.
    Style(
        "techno",
        "machines",
        7.5,
        (
            P("electronic_kit", "four_on_the_floor", 2),
            P("synth_stab", "arpeggio", -2),
            P("synth_bass", "bass_line", -3),
            P("synth_pad", "chords", -9, 0.4),
        ),
        (122, 148),
        (-16, -10),
        ("minor",),
        (0.3, 1.0),
        {"techno": 1.0, **ELECTRONIC, "trance": 0.15, "dance": 0.15},
        leading=True,
    ),
    Style(
        "breaks",
        "machines",
        4.4,
        (P("electronic_kit", "broken_beat", 2), P("synth_bass", "bass_line", -1), P("synth_lead", "melody", -3, 0.7)),
        (100, 165),
        (-17, -11),
        ("minor", "blues"),
        (0.3, 1.0),
        {"techno": 0.9, **ELECTRONIC, "beats": 0.3, "jungle": 0.1},
    ),
    Style(
        "dance_with_singer",
        "machines",
        3.8,
        (
            P("female", "song", 4, 0.9),
            P("electronic_kit", "four_on_the_floor", 1),
            P("synth_lead", "pulse", -4),
            P("synth_bass", "bass_line", -3),
        ),
        (116, 136),
        (-15, -10),
        ("minor",),
        (0.4, 1.2),
        {"dance": 1.0, "techno": 0.8, "pop": 0.35, **ELECTRONIC, "disco": 0.1, "house": 0.1},
    ),
    Style(
        "dance_instrumental",
        "machines",
        3.8,
        (
            P("electronic_kit", "four_on_the_floor", 1),
            P("synth_lead", "melody", 0),
            P("synth_lead", "pulse", -4),
            P("synth_bass", "bass_line", -3),
        ),
        (116, 140),
        (-15, -10),
        ("major", "minor"),
        (0.4, 1.2),
        {"dance": 1.0, "techno": 0.9, **ELECTRONIC, "trance": 0.15},
        leading=True,
    ),
    # Still music.
    Style(
        "new_age_harp",
        "still",
        4.0,
        (P("harp", "arpeggio"), P("synth_pad", "chords", -4), P("flute", "long_line", 0)),
        (52, 84),
        (-33, -27.5),
        ("pentatonic", "major"),
        (1.8, 3.2),
        {"new age": 1.0, "ambient": 0.4, "mellow": 0.15, "calm": 0.15},
        leading=True,
    ),
    Style(
        "new_age_piano",
        "still",
        2.3,
        (P("piano", "arpeggio"), P("synth_pad", "chords", -3), P("cello", "long_line", -1, 0.5)),
        (52, 84),
        (-30, -20),
        ("major", "minor"),
        (1.6, 3.0),
        {"new age": 1.0, "ambient": 0.3, "mellow": 0.15},
    ),
    Style(
        "new_age_flute",
        "still",
        2.3,
        (P("flute", "melody"), P("synth_pad", "chords", -3), P("bell", "long_line", -8, 0.5)),
        (50, 84),
        (-30, -20),
        ("pentatonic",),
        (1.8, 3.2),
        {"new age": 1.0, "ambient": 0.4, "airy": 0.15, "chimes": 0.1},
    ),
    Style(
        "ambient",
        "still",
        5.4,
        (P("synth_pad", "chords"), P("synth_pad", "long_line", -2, 0.7), P("bell", "long_line", -8, 0.4)),
        (50, 80),
        (-32, -19),
        ("minor", "major"),
        (2.2, 3.8),
        {"ambient": 1.0, **ELECTRONIC, "space": 0.15, "spacey": 0.1},
        leading=True,
    ),
    Style(
        "dark_ambient",
        "still",
        2.0,
        (P("synth_pad", "drone"), P("siren", "scatter", -6, 0.8)),
        (50, 80),
        (-31, -19),
        ("chromatic",),
        (2.2, 3.8),
        {"ambient": 1.0, "weird": 0.6, **ELECTRONIC, "eerie": 0.2, "dark": 0.2, "drone": 0.2},
    ),
    Style(
        "weird_noises",
        "odd",
        4.6,
        (P("siren", "scatter"), P("bubbles", "scatter", 0), P("bell", "scatter", -3, 0.6)),
        (60, 150),
        (-26, -13),
        ("chromatic",),
        (0.4, 2.5),
        {"weird": 1.0, "electronic": 0.7, "strange": 0.25, "noise": 0.15},
        leading=True,
    ),
    Style(
        "weird_machine",
        "odd",
        2.8,
        (P("bubbles", "scatter"), P("synth_stab", "runs", -2), P("electronic_kit", "broken_beat", -3, 0.5)),
        (80, 170),
        (-22, -12),
        ("chromatic",),
        (0.3, 1.5),
        {"weird": 1.0, "electronic": 0.8, "strange": 0.2},
    ),
)

SPANS: Final[Mapping[str, tuple[int, int]]] = {
    "acoustic_guitar": (43, 74),
    "banjo": (55, 81),
    "bass_guitar": (28, 45),
    "bell": (64, 90),
    "bubbles": (55, 85),
    "cello": (36, 60),
    "electric_guitar": (40, 57),
    "female": (60, 77),
    "fiddle": (62, 86),
    "flute": (67, 91),
    "harp": (48, 88),
    "harpsichord": (48, 79),
    "male": (43, 60),
    "men_choir": (43, 60),
    "organ": (48, 74),
    "piano": (48, 84),
    "shouter": (46, 60),
    "siren": (45, 85),
    "sitar": (50, 76),
    "soprano": (65, 86),
    "steel_guitar": (57, 79),
    "string_section": (48, 79),
    "synth_bass": (28, 45),
    "synth_lead": (60, 84),
    "synth_pad": (43, 72),
    "synth_stab": (45, 76),
    "tenor": (48, 67),
    "violin": (62, 90),
    "women_choir": (58, 77),
}
"""Lowest and highest MIDI pitch; drums have none."""

MEN: Final = {
    "male": 0.69,
    "man": 0.5,
    "male vocal": 0.58,
    "male voice": 0.46,
    "male singer": 0.05,
    "male vocals": 0.05,
}
WOMEN: Final = {
    "female": 0.72,
    "woman": 0.56,
    "female vocal": 0.5,
    "female voice": 0.46,
    "female singer": 0.05,
    "female vocals": 0.05,
}
"""Synonyms: tag -> how many of the listeners choose the word."""

INSTRUMENT_TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "acoustic_guitar": ("guitar", "acoustic guitar", "plucking"),
    "acoustic_kit": ("drums", "percussion"),
    "banjo": ("banjo", "plucking"),
    "bass_guitar": ("bass",),
    "bell": ("bells",),
    "cello": ("cello", "strings"),
    "electric_guitar": ("guitar", "electric guitar"),
    "electronic_kit": ("drums", "beat", "beats", "percussion"),
    "fiddle": ("violin", "fiddle"),
    "flute": ("flute", "woodwind"),
    "harp": ("harp", "strings"),
    "harpsichord": ("harpsichord", "harpsicord"),
    "organ": ("organ",),
    "piano": ("piano", "keyboard"),
    "sitar": ("sitar",),
    "steel_guitar": ("guitar",),
    "string_section": ("strings", "violins"),
    "synth_bass": ("bass",),
    "synth_lead": ("synth", "synthesizer", "keyboard"),
    "synth_pad": ("synth", "synthesizer"),
    "synth_stab": ("synth",),
    "tabla": ("drums", "tribal"),
    "violin": ("violin", "strings"),
}
