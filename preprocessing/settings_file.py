"""Files of settings in YAML: read, and what is wrong in them said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from preprocessing.errors import BadInputError

if TYPE_CHECKING:
    from pydantic import ValidationError


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        BadInputError: it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInputError(f"configuration {path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadInputError(f"configuration {path}: expected a mapping of settings")
    return values


def wrong_setting(error: ValidationError, source: str) -> BadInputError:
    """Say in one line which setting of a file is wrong, and why."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "configuration"
    message = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return BadInputError(f"{source}: {where}: {message}{got}")
