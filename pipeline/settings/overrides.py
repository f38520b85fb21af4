"""``--set KEY=VALUE``: a value on the command line, read by the type of the setting that it is for.

Text is taken as text, whatever is in it: ``root=/music/Best of #1 hits``, ``name=yes``, ``kubeflow.env.AT=12:30``. Of a
setting that may be unset, ``null`` and nothing unset it. Numbers, switches, lists and mappings are YAML, and text in
lists and mappings is text again. Nothing is cut: a value of which YAML would drop a part as a comment is refused.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Union

import yaml
from pydantic import BaseModel

from preprocessing.errors import BadInputError

UNSET: Final = frozenset({"", "null", "Null", "NULL", "~"})
"""What unsets a setting that may be unset."""

OLD_TYPES: Final[Mapping[tuple[str, ...], Any]] = {
    ("ensemble",): tuple[str, ...],
    ("data", "tags"): tuple[str, ...],
    ("data", "n_tags"): int,
}
"""Settings of 0.1 that the models do not have."""


def read_value(model: type[BaseModel], key: Sequence[str], text: str) -> Any:
    """Return the value that a text stands for.

    Args:
        model: that has the setting, itself or below.
        key: names of the setting and of those above it.
        text: as on the command line.

    Raises:
        BadInputError: it is no YAML where YAML is asked for, or YAML would drop a part of it.
    """
    kinds = list(_types_at(model, key))
    if not kinds:  # no such setting, which is said when all is checked
        return text
    if text in UNSET and type(None) in kinds:
        return None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader) if _may_be_yaml(kinds, text) else None
        if node is not None and _takes(kinds, node):
            _check_whole(text)
            return _build(node, kinds)
        if _takes_text(kinds):
            return text
        _check_whole(text)
        return None if node is None else _build(node, kinds)
    except yaml.YAMLError as error:
        if _takes_text(kinds):
            return text
        raise BadInputError(" ".join(str(error).split())) from None


def set_value(model: type[BaseModel], values: dict[str, Any], override: str) -> None:
    """Set one setting in a file's values.

    Args:
        model: that the values are of.
        values: as the file has them; changed.
        override: ``KEY=VALUE`` with a dotted key.

    Raises:
        BadInputError: it is not that, or the value cannot be read.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadInputError(f"--set {override}: expected KEY=VALUE, such as --set networks.mel_1d.epochs=3")
    *parents, last = key.split(".")
    try:
        value = read_value(model, key.split("."), text)
    except BadInputError as error:
        raise BadInputError(f"--set {override}: {error}") from None
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise BadInputError(f"--set {override}: {parent!r} is a value and has no settings below it")
    values[last] = value


def _may_be_yaml(kinds: Sequence[Any], text: str) -> bool:
    return not all(_is_text(kind) or kind is type(None) for kind in kinds) or not kinds


def _takes_text(kinds: Sequence[Any]) -> bool:
    return any(map(_is_text, kinds))


def _is_text(kind: Any) -> bool:
    return kind is str or (
        typing.get_origin(kind) is Literal and all(isinstance(choice, str) for choice in typing.get_args(kind))
    )


def _takes(kinds: Sequence[Any], node: yaml.Node) -> bool:
    """Whether the node is a list or a mapping, and one of the types takes that."""
    if isinstance(node, yaml.SequenceNode):
        return any(typing.get_origin(kind) in (tuple, list) or _is_model(kind) for kind in kinds)
    return isinstance(node, yaml.MappingNode) and any(_is_model(kind) or _is_dict(kind) for kind in kinds)


def _is_model(kind: Any) -> bool:
    if typing.get_origin(kind) is not None or not isinstance(kind, type):
        return False
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def _settings_of(kind: Any) -> Mapping[str, Any]:
    """Return name -> type of a model's or dataclass's settings."""
    if issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    return typing.get_type_hints(kind)


def _is_dict(kind: Any) -> bool:
    return typing.get_origin(kind) is dict


def _alternatives(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _types_at(model: Any, key: Sequence[str]) -> Iterator[Any]:
    """Yield the types that the setting of a key may have; none where there is no such setting."""
    if tuple(key) in OLD_TYPES:
        yield OLD_TYPES[tuple(key)]
        return
    for kind in _alternatives(model):
        if not key:
            yield kind
        elif _is_model(kind):
            name = "networks" if key[0] == "branches" else key[0]
            if name in _settings_of(kind):
                yield from _types_at(_settings_of(kind)[name], key[1:])
        elif _is_dict(kind):
            yield from _types_at(typing.get_args(kind)[1], key[1:])


def _check_whole(text: str) -> None:
    """Raise BadInputError where YAML takes a part of the text for a comment, or for a second document."""
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        between = text[end : token.start_mark.index]
        if between.strip():
            raise BadInputError(
                f"{between.strip()!r} would be lost as a comment; quote it inside the value, or leave it out"
            )
        end = max(end, token.end_mark.index)
    if text[end:].strip():
        raise BadInputError(f"{text[end:].strip()!r} would be lost as a comment; quote it, or leave it out")


def _build(node: yaml.Node, kinds: Sequence[Any]) -> Any:
    """Make the value of a node, with text where one of the types is text."""
    if isinstance(node, yaml.MappingNode):
        return {
            str(key.value): _build(value, list(_types_of_entry(kinds, str(key.value)))) for key, value in node.value
        }
    if isinstance(node, yaml.SequenceNode):
        inner = [kind for each in kinds for kind in _types_of_item(each)]
        return [_build(item, inner) for item in node.value]
    plain = getattr(node, "style", None) is None
    if plain and node.value in UNSET and (type(None) in kinds or not _takes_text(kinds)):
        return None
    if _takes_text(kinds) or not plain:
        return node.value
    value = yaml.SafeLoader("").construct_object(node)  # type: ignore[no-untyped-call]
    return value if isinstance(value, bool | float | int) and ":" not in node.value else node.value


def _types_of_entry(kinds: Sequence[Any], name: str) -> Iterator[Any]:
    for kind in kinds:
        yield from _types_at(kind, [name])


def _types_of_item(kind: Any) -> Iterator[Any]:
    if typing.get_origin(kind) in (tuple, list):
        for part in typing.get_args(kind):
            if part is not Ellipsis:
                yield from _alternatives(part)
    elif _is_model(kind):  # a list that stands for one of its settings, as an ensemble's networks
        for annotation in _settings_of(kind).values():
            yield from _types_of_item(annotation)
