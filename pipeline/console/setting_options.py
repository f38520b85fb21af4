"""Options of a command line, made of the settings that they set, and the settings made of what was typed.

``autotag preprocess`` and the Dataflow template's launcher have the same ones.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from datasets.registry import DATASETS, RULES
from preprocessing.beam.settings import BeamSettings
from preprocessing.clip_format import PAPER_CLIP, clip_of_seconds
from preprocessing.settings import PreprocessSettings, settings_in
from preprocessing.splits import PAPER_RATIO, parse_ratio

Decorated = Callable[..., Any]


@dataclass(frozen=True)
class Option:
    """A setting, or a part of one, as it is typed.

    Attributes:
        name: of the value, with underscores.
        kind: str, int or float.
        default: None for what need not be given.
        help: a sentence.
        choices: all that it can be; empty for anything.
        metavar: stands for the value in help.
        several: may be given several times.
    """

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    several: bool = False

    def __call__(self, function: Decorated) -> Decorated:
        """Add it to a click command."""
        return click.option(
            f"--{self.name.replace('_', '-')}",
            self.name,
            type=click.Choice(self.choices) if self.choices else self.kind,
            default=self.default,
            show_default=self.default not in (None, ""),
            help=self.help,
            metavar=self.metavar,
            multiple=self.several,
        )(function)


def option_for(settings: type, name: str, choices: Sequence[str] = (), /, **changes: Any) -> Option:
    """Return the option of a setting.

    Args:
        settings: a dataclass (preprocessing.settings.settings_in).
        name: of its field.
        choices: what the value can be, where the setting does not say so.
        changes: attributes of Option that the field does not have, such as another name.
    """
    setting = settings_in(settings)[name]
    optional = typing.get_origin(setting.kind) in (types.UnionType, typing.Union)
    kinds = typing.get_args(setting.kind) if optional else (setting.kind,)
    words = setting.description
    values = {
        "name": name,
        "kind": next((kind for kind in (int, float) if kind in kinds), str),
        "default": setting.default,
        "help": f"{words[0] if 'runners' in setting.metadata else words[0].upper()}{words[1:]}.",
        "choices": tuple(choices) or setting.choices,
        "metavar": setting.metadata.get("metavar"),
    }
    return Option(**{**values, **changes})


def options(each: Sequence[Option]) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds options to a click command, in this order."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate


DATASET: Final = option_for(PreprocessSettings, "dataset", tuple(DATASETS))
SUBSET: Final = option_for(PreprocessSettings, "subset")
COLUMN: Final = option_for(
    PreprocessSettings, "columns", name="column", default=None, metavar="ROLE=NAME", several=True
)
PREPROCESS: Final = (
    DATASET,
    SUBSET,
    COLUMN,
    option_for(PreprocessSettings, "split", tuple(RULES)),
    option_for(PreprocessSettings, "ratio", default=":".join(map(str, PAPER_RATIO))),
    option_for(PreprocessSettings, "seed"),
    option_for(PreprocessSettings, "n_tags", name="tags"),
    option_for(
        PreprocessSettings,
        "tags",
        name="tags_file",
        help="A list in place of --tags: a file with a tag a line, or 'default'.",
    ),
    option_for(PreprocessSettings, "synonyms"),
    Option("clip_seconds", float, PAPER_CLIP.seconds, "Length of a clip."),
    Option("sample_rate", int, PAPER_CLIP.sample_rate, "Hz, of a clip."),
    option_for(PreprocessSettings, "excerpts"),
    option_for(PreprocessSettings, "excerpt_count"),
    option_for(PreprocessSettings, "shard_clips"),
)
"""The options by which PreprocessSettings are typed."""

BEAM: Final = tuple(option_for(BeamSettings, name) for name in settings_in(BeamSettings) if name != "options")
"""The options by which BeamSettings are typed."""

_PARTS: Final = ("column", "ratio", "tags", "tags_file", "clip_seconds", "sample_rate")
"""Those that are no setting as they stand."""


def preprocess_settings(typed: Mapping[str, Any]) -> PreprocessSettings:
    """Make settings of the values of PREPROCESS' options; other values are left aside.

    Raises:
        BadInputError: one cannot be read, or is none that the setting can have.
    """
    from datasets.reading import load_tags
    from datasets.table import parse_column

    tags_file = typed["tags_file"]
    return PreprocessSettings(
        **{option.name: typed[option.name] for option in PREPROCESS if option.name not in _PARTS},
        columns=tuple(map(parse_column, typed["column"])),
        ratio=parse_ratio(typed["ratio"]),
        n_tags=typed["tags"],
        tags=None if tags_file is None else load_tags(tags_file, typed["dataset"], typed["subset"]),
        clip=clip_of_seconds(typed["clip_seconds"], typed["sample_rate"]),
    )
