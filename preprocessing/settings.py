"""What decides the examples: each setting once, with its type, default, least value and a line of help.

A configuration's ``data`` section, the options of ``autotag preprocess`` and the parameters of the Dataflow template
take theirs from here. Plain dataclasses: a Beam worker, which reads them, has no pydantic.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from preprocessing import constants
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.excerpts import ExcerptPlace, ExcerptRule
from preprocessing.splits import PAPER_RATIO, Draw

LEAST_RATE: Final = 1_000
MOST_RATE: Final = 192_000
LEAST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 600
"""Bounds of a clip's format: what the log-mel's bands and a record in memory can take."""


def setting(default: Any, description: str, **more: Any) -> Any:
    """Return a field of a dataclass of settings.

    Args:
        default: its value unless given.
        description: what help and documentation say of it.
        more: as pydantic.Field has them, such as ``ge``; ``choices``, where the type does not say them; ``metavar``, of
            the option on a command line; ``runners``, to which a setting of Beam's belongs, and ``option``, Beam's own
            for it.
    """
    return dataclasses.field(default=default, metadata={"description": description, **more})


@dataclass(frozen=True)
class Setting:
    """What a dataclass of settings says of one of them.

    Attributes:
        kind: type of its value, a Literal or None beside it included.
        metadata: description, bounds and what else the dataclass says.
    """

    name: str
    kind: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def description(self) -> str:
        """What help and documentation say of it, after the runners that it belongs to."""
        return ": ".join(filter(None, [", ".join(self.metadata.get("runners", ())), self.metadata["description"]]))

    @property
    def choices(self) -> tuple[str, ...]:
        """All that it can be; empty where that is more than a list of words."""
        if typing.get_origin(self.kind) is typing.Literal:
            return typing.get_args(self.kind)
        return tuple(self.metadata.get("choices", ()))


def settings_in(settings: type) -> dict[str, Setting]:
    """Return name -> setting of a dataclass whose fields are made by ``setting``."""
    kinds = typing.get_type_hints(settings)
    return {
        field.name: Setting(field.name, kinds[field.name], field.default, field.metadata)
        for field in dataclasses.fields(settings)
    }


@dataclass(frozen=True)
class PreprocessSettings:
    """What decides the examples, beside the audio and the annotations.

    Raises:
        BadInputError: a setting has a value that it cannot have. (Data set, subset and split rule are looked up where
            the data are read.)
    """

    split: str = setting("track", "rule by which clips are divided")
    ratio: tuple[int, int, int] = setting(PAPER_RATIO, "train : valid : test, of the seeded rules")
    seed: int = setting(0, "of the seeded rules")
    n_tags: int = setting(
        constants.N_TAGS, "how many of the training split's most frequent tags", title="number of tags", ge=1
    )
    synonyms: str | None = setting(None, "tags to merge: a YAML file, or `default` for MagnaTagATune's")
    shard_clips: int = setting(128, "clips in a file of examples, on average", ge=1)
    tags: tuple[str, ...] | None = setting(None, "the tags, in place of the most frequent ones")
    dataset: str = setting("mtat", "whose files and annotations they are: `autotag dataset` lists the names")
    columns: tuple[tuple[str, str], ...] = setting((), "of a table: which column is path, tags ...; role -> its name")
    clip: ClipFormat = setting(PAPER_CLIP, "length and rate of a clip")
    excerpts: ExcerptPlace = setting("first", "where a long track's clips are taken")
    excerpt_count: int = setting(1, "clips of a long track", title="excerpts of a track", ge=1)
    subset: str = setting("", "of the data set, as `autotag dataset NAME` lists them; its first one unless given")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), field.metadata.get("ge")
            if least is not None and value < least:
                title = field.metadata.get("title", field.name.replace("_", " "))
                raise BadInputError(f"{title} {value}: expected {least} or more")
        if not (
            LEAST_RATE <= self.clip.sample_rate <= MOST_RATE and LEAST_SECONDS <= self.clip.seconds <= MOST_SECONDS
        ):
            raise BadInputError(
                f"clips of {self.clip.seconds:g} s at {self.clip.sample_rate} Hz: expected {LEAST_SECONDS} to "
                f"{MOST_SECONDS} s at {LEAST_RATE} to {MOST_RATE} Hz"
            )
        self.draw  # noqa: B018 checks the ratio
        self.excerpt_rule  # noqa: B018 checks the name

    @property
    def excerpt_rule(self) -> ExcerptRule:
        """Where a track's excerpts lie, and how many there are."""
        return ExcerptRule(self.excerpts, self.excerpt_count)

    @property
    def draw(self) -> Draw:
        """Seed and ratio of the seeded split rules."""
        return Draw(self.seed, self.ratio)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PreprocessSettings:
        """Read what JSON made of ``dataclasses.asdict``: lists where tuples were."""
        tags = values["tags"]
        return cls(
            **{
                **values,
                "ratio": tuple(values["ratio"]),
                "tags": None if tags is None else tuple(tags),
                "columns": tuple((role, column) for role, column in values.get("columns", ())),
                "clip": ClipFormat(**values.get("clip", {})),
            }
        )
