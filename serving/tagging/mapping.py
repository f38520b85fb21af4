"""Which of a model's tags go into which fields of a file, and how they are spelled there: ``--fields``.

A mapping is a YAML file with a rule for each field::

    genre:
      tags: [rock, pop, hip hop]
      rename: {hip hop: Hip-Hop, electronica: Electronic}
      casing: title
      most: 2
    mood:
      heads: [mood]
    MY_INSTRUMENTS:
      tags: ["instrument---*"]
      mode: replace

``default``, in this package, has a rule for the tags of the trained models that ``autotag pretrained`` lists.

What a person has written by hand is kept: ``mode: fill``, which is the default, writes only where nothing stands, and
``add`` puts ours behind it. What an earlier run has put there is known by a field of ours beside it
(``AUTOTAG_FIELDS``) and makes place for what is heard now. ``replace`` takes the field for us, where there is anything
to put into it. A rule for our own field, ``AUTOTAG``, says what stands in that one, which is replaced always.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator, model_validator

from models.heads import Heads
from preprocessing.errors import BadInputError
from preprocessing.settings_file import read_settings_file, wrong_setting
from serving.tagging.field_values import Heard, heard_tags
from serving.tagging.file_tags import check_field
from serving.tagging.tag_fields import PLAYERS_FIELDS

READY_MADE: Final = {"default": Path(__file__).with_name("mappings") / "default.yaml"}
CATEGORY_MARK: Final = "---"
"""MTG-Jamendo's tags are ``genre---rock``: what stands before it is no part of a tag's name."""
SHOWN_TAGS: Final = 8

Mode = Literal["fill", "add", "replace"]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]


class FieldRule(BaseModel):
    """What goes into one field.

    Attributes:
        tags: that may go there, patterns (``*``, ``?``) among them; case does not matter. None for all. Those in
            ``rename`` are among them.
        heads: of the model (``genre``, which is one of several, say); None for all.
        rename: tag -> how it is spelled here, as it stands.
        casing: of the others; title is a capital at each word's begin.
        separator: between the values where they stand as one; None for several values where the file can hold them.
        most: values.
        min_probability: of a tag, besides what --threshold and --top leave.
        mode: fill writes where nothing of anybody else's stands; add puts ours behind that; replace takes its place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: tuple[Text, ...] | None = None
    heads: tuple[Text, ...] | None = None
    rename: dict[Text, Text] = Field(default_factory=dict)
    casing: Literal["as_is", "lower", "title"] = "as_is"
    separator: Text | None = None
    most: int | None = Field(default=None, ge=1)
    min_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    mode: Mode = "fill"

    @model_validator(mode="after")
    def _check_spellings(self) -> FieldRule:
        names = [name.casefold() for name in self.rename]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"rename has {twice!r} twice (case does not matter)")
        return self

    def values(self, heard: Sequence[Heard]) -> tuple[str, ...]:
        """Return the values of what was heard, the most probable first, each once (case does not matter)."""
        found: dict[str, str] = {}
        for one in heard:
            if one.probability >= self.min_probability and self.takes(one.tag, one.head):
                value = self._spell(one.tag)
                found.setdefault(value.casefold(), value)
        return tuple(found.values())[: self.most]

    def takes(self, tag: str, head: str) -> bool:
        """Whether a tag of a head may go into this field."""
        if self.heads is not None and head not in self.heads:
            return False
        if self.tags is None:
            return True
        name = tag.casefold()
        return any(fnmatch.fnmatchcase(name, allowed.casefold()) for allowed in (*self.tags, *self.rename))

    def _spell(self, tag: str) -> str:
        for name, spelled in self.rename.items():
            if name.casefold() == tag.casefold():
                return spelled
        name = tag.split(CATEGORY_MARK)[-1] or tag
        if self.casing == "lower":
            return name.lower()
        return _title(name) if self.casing == "title" else name


def _title(name: str) -> str:
    """A capital at each word's begin; the other letters stay, as those of ``hip-hop``'s second word do not."""
    return re.sub(r"(?:^|(?<=[\s\-/&(]))\w", lambda letter: letter[0].upper(), name)


class FieldMapping(RootModel[dict[str, FieldRule]]):
    """Field's name -> its rule."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root")
    @classmethod
    def _check_fields(cls, rules: dict[str, FieldRule]) -> dict[str, FieldRule]:
        if not rules:
            raise ValueError("no field is named; expected one at least, as genre: {tags: [rock, pop]}")
        names = {}
        for name, rule in rules.items():
            known = name.lower() if name.lower() in PLAYERS_FIELDS else name
            try:
                names[known] = rule if known in PLAYERS_FIELDS else rules[check_field(name)]
            except BadInputError as error:
                raise ValueError(str(error)) from None
        if len({name.lower() for name in names}) < len(rules):
            raise ValueError("a field is named twice (case does not matter)")
        return names

    @property
    def identity(self) -> str:
        """What tells this mapping from others, in eight characters."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    def check_tags(self, tags: Sequence[str], heads: Heads | None, source: str) -> None:
        """Look whether a model has anything for these fields.

        Args:
            tags: the model's.
            heads: the model's; None where it does not tell them.
            source: what people call the mapping.

        Raises:
            BadInputError: no rule takes any of its tags, or a head is not the model's.
        """
        names = [head.name for head, _ in (heads or Heads.of_tags(len(tags))).slices()]
        wanted = {head for rule in self.root.values() for head in rule.heads or ()} - set(names)
        if wanted:
            raise BadInputError(
                f"{source}: the model has no head {min(wanted)!r}; its heads are {', '.join(map(repr, names))}"
            )
        all_heard = heard_tags([(tag, 1.0) for tag in tags], tags, heads)
        if not any(rule.takes(one.tag, one.head) for rule in self.root.values() for one in all_heard):
            more = ", ..." if len(tags) > SHOWN_TAGS else ""
            raise BadInputError(
                f"{source}: no field takes any of the model's {len(tags)} tags ({', '.join(tags[:SHOWN_TAGS])}{more}): "
                "name some of them in tags or rename"
            )


def load_mapping(name: str) -> FieldMapping:
    """Read a mapping.

    Args:
        name: ``default``, or a YAML file.

    Raises:
        BadInputError: says what is wrong in it and where.
    """
    path = READY_MADE.get(name, Path(name))
    try:
        return FieldMapping.model_validate(read_settings_file(path))
    except ValidationError as error:
        raise wrong_setting(error, str(path)) from None
