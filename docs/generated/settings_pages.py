"""The pages of settings, from the pydantic models that read them."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.compare.config import ComparisonConfig
from pipeline.settings.config import PipelineConfig
from pipeline.settings.recipes import RECIPES
from preprocessing.settings import settings_in

CONFIGURATION = """# Configuration

What `autotag run`, `autotag runs`, `autotag report`, `autotag gc` and `autotag kubeflow` read: a YAML file. What is not
set has the default that stands here. `--set KEY=VALUE` sets one over the file, with dots between the names:

```bash
autotag run my.yaml --set networks.mel_1d.epochs=40 --set gate.min_roc_auc=0.85
autotag run my.yaml --show-config
```

`--show-config` prints every setting as it will be used. An unknown name is refused, and said. NAME stands for a name of
your own: a letter, then letters, digits and `_`. Ready-made files are in `pipeline/configs`.
"""

COMPARISONS = """# Comparisons

What [`autotag compare`](commands.md#autotag-compare) reads: a YAML file.
[How to compare networks](../how-to/compare.md) shows one. Data, networks, ensembles and the combiner are
set as in [a configuration](configuration.md).

```bash
autotag compare my.yaml --show-config
```
"""


WORDS: Final[dict[Any, str]] = {
    bool: "true, false",
    int: "whole number",
    float: "number",
    str: "text",
    type(None): "null",
    Any: "value",
}
"""Type -> what a person writes."""
SIGNS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
"""Name of a bound -> how it is written."""


def configuration() -> str:
    """Return the page of `autotag run`'s configuration, in Markdown."""
    parts = [CONFIGURATION, _table(PipelineConfig)]
    for model, path in PLACES.items():
        parts += [f"## {path} {{#{anchor(path)}}}", _about(model), _table(model)]
    return "\n\n".join([*parts, _recipes()]) + "\n"


def comparisons() -> str:
    """Return the page of a comparison's configuration, in Markdown."""
    return f"{COMPARISONS}\n\n{_table(ComparisonConfig, 'configuration.md')}\n"


def anchor(path: str) -> str:
    """Return a section's place on the page."""
    return path.replace(".", "-").lower()


def _recipes() -> str:
    settings = list(dict.fromkeys(key for values in RECIPES.values() for key in values))
    rows = [
        f"| `{key}` | " + " | ".join(_code(values.get(key)) for values in RECIPES.values()) + " |" for key in settings
    ]
    head = "| setting | " + " | ".join(f"`{name}`" for name in RECIPES) + " |\n|---|" + "---|" * len(RECIPES)
    words = "What `recipe:` of a network stands for; empty where the default above stays. "
    return "\n\n".join(["## Recipes", f"{words}[Why](../explanation/recipes.md).", "\n".join([head, *rows])])


def _sections(path: str, model: type) -> Iterator[tuple[str, type]]:
    """Yield the models below a model, each with where it stands in the file, in the order of the file."""
    for name, annotation, _, _ in _fields(model):
        below = f"{path}.{name}".lstrip(".")
        for found, in_mapping in _models(annotation):
            where = f"{below}.NAME" if in_mapping else below
            yield where, found
            yield from _sections(where, found)


def _models(annotation: Any, in_mapping: bool = False) -> Iterator[tuple[type, bool]]:
    """Yield the models in a field's type, and whether each stands below a name of the user's own."""
    if _is_model(annotation):
        yield annotation, in_mapping
        return
    below = in_mapping or typing.get_origin(annotation) is dict
    for argument in typing.get_args(annotation):
        yield from _models(argument, below)


def _is_model(kind: Any) -> bool:
    return (
        typing.get_origin(kind) is None
        and isinstance(kind, type)
        and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))
    )


def _fields(model: type) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, type, default and description of each field."""
    if issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield name, field.annotation, _default(field), field.description or ""
        return
    for setting in settings_in(model).values():
        kind = typing.Literal[setting.choices] if setting.choices else setting.kind
        yield setting.name, kind, setting.default, setting.description


def _default(field: FieldInfo) -> Any:
    return PydanticUndefined if field.is_required() else field.get_default(call_default_factory=True)


def _about(model: type) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


def _table(model: type, page: str = "") -> str:
    rows = ["| setting | what it takes | default | |", "|---|---|---|---|"]
    for name, annotation, default, words in _fields(model):
        rows.append(
            f"| `{name}` | {_takes(annotation, _limits(model, name), page)} | {_code(default)} | {_cell(words)} |"
        )
    return "\n".join(rows)


def _limits(model: type, name: str) -> str:
    """Return what a number must be, such as "≥ 1"."""
    if issubclass(model, BaseModel):
        limits = {
            key: getattr(one, key) for one in model.model_fields[name].metadata for key in SIGNS if hasattr(one, key)
        }
    else:
        limits = settings_in(model)[name].metadata
    return ", ".join(f"{sign} {limits[key]:g}" for key, sign in SIGNS.items() if key in limits)


def _takes(annotation: Any, limits: str, page: str) -> str:
    if _is_model(annotation):
        return f"[settings]({page}#{anchor(PLACES[annotation])})"
    if annotation in WORDS:
        return f"{WORDS[annotation]}{f', {limits}' if limits and annotation in (int, float) else ''}"
    return _compound(annotation, limits, page)


def _compound(annotation: Any, limits: str, page: str) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(_takes(one, limits, page) for one in arguments)
    if origin is typing.Annotated:
        return _takes(arguments[0], limits, page)
    if origin is dict:
        return f"name: {_takes(arguments[1], limits, page)}"
    if origin is tuple:
        each = _takes(arguments[0], limits, page)
        return f"list: {each}" if arguments[-1] is Ellipsis else f"list of {len(arguments)}: {each}"
    raise TypeError(f"how is {annotation} written in YAML?")


def _code(value: Any) -> str:
    """Return a default as YAML has it, short; nothing for what stands in a table of its own."""
    if value is PydanticUndefined:
        return "must be given"
    if value is None or isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value)
    if isinstance(value, list | tuple):
        return (
            ""
            if any(isinstance(one, BaseModel) for one in value)
            else f"`[{', '.join(map(str, value))}]`"
            if value
            else ""
        )
    return f"`{value}`" if value != "" else ""


def _cell(words: str) -> str:
    """Return a description as a cell of a table has it."""
    text = words.replace("``", "`").replace(" -> ", ": ").removesuffix(".")
    return text.replace("|", "\\|").replace("<", "\\<")


PLACES: Final[dict[type, str]] = {}
"""Model -> where it first stands in a configuration."""
for _path, _model in _sections("", PipelineConfig):
    PLACES.setdefault(_model, _path)
