"""Which version each label names: ``labels.json`` beside the versions, from which servers' configurations are made.

TF Serving takes a whole configuration by HandleReloadConfig and cannot be asked for the one that it has, so what was
promoted is kept here:

- without labels, the two newest versions are loaded, and a push is served as soon as it is seen;
- with labels, nothing is loaded but the versions that a label names and, for each label, the one that it named before
  (so that a rollback is a matter of a moment), if that is older than the newest labelled one: a request that names
  neither label nor version goes to the highest version that is loaded, which must not be one that was rolled back.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.locks import hold

LABELS_NAME: Final = "labels.json"
LOCK_NAME: Final = ".labels.lock"
HISTORY_LENGTH: Final = 20
"""How many versions a label can be rolled back."""

_LABEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Labels:
    """What each label names, and what it named before.

    Attributes:
        current: version by label.
        before: versions that a label named earlier, the latest last; what a rollback goes back to.
    """

    current: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def promoted(self, label: str, version: int | None) -> Labels:
        """Return the labels with ``label`` at ``version``, or without it (None).

        Raises:
            BadInputError: no proper label, or nothing would change.
        """
        if not _LABEL.fullmatch(label):
            raise BadInputError(f"{label!r} is no label: use up to 64 letters, digits, '.', '_' and '-', as in stable")
        old = self.current.get(label)
        if old == version:
            raise BadInputError(f"{label} is {'not set' if version is None else f'version {version}'} already")
        current = {name: number for name, number in self.current.items() if name != label}
        if version is not None:
            current[label] = version
        history = self.before.get(label, ())
        if old is not None:
            history = (*(number for number in history if number != old), old)[-HISTORY_LENGTH:]
        return Labels(current, {**self.before, label: history})

    def rolled_back(self, label: str, present: Collection[int] | None = None) -> Labels:
        """Return the labels with ``label`` at the version that it named before, if it is still there.

        Args:
            present: versions that are there; None where that is not known.

        Raises:
            BadInputError: there is none to go back to.
        """
        history = self.before.get(label, ())
        usable = [number for number in history if present is None or number in present]
        if not usable:
            gone = f" ({', '.join(map(str, history))} were deleted)" if history else ""
            raise BadInputError(
                f"{label} cannot be rolled back: it named no other version before{gone}. `autotag promote --show` "
                f"lists what there is, and `autotag promote VERSION --label {label}` names another"
            )
        return Labels({**self.current, label: usable[-1]}, {**self.before, label: history[: history.index(usable[-1])]})

    def loaded(self, present: Collection[int] | None = None) -> tuple[int, ...]:
        """Return the versions to be loaded, in order; () where nothing is labelled and the newest are followed."""
        labelled = set(self.current.values())
        standby = {history[-1] for label, history in self.before.items() if history and label in self.current}
        kept = {
            number for number in standby if number < max(labelled, default=0) and (present is None or number in present)
        }
        return tuple(sorted(labelled | kept)) if labelled else ()

    def to_json(self) -> str:
        """Return the text of ``labels.json``."""
        return json.dumps({"labels": dict(self.current), "before": dict(self.before)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Labels:
        """Read the text of ``labels.json``.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        data = json.loads(text)
        current = {label: int(version) for label, version in data["labels"].items()}
        before = {label: tuple(map(int, versions)) for label, versions in data["before"].items()}
        if not all(_LABEL.fullmatch(label) for label in (*current, *before)):
            raise ValueError("a label has other characters than letters, digits, '.', '_' and '-'")
        return cls(current, before)


def read_labels(model_dir: Path) -> Labels:
    """Read ``labels.json`` of a folder of versions; nothing is labelled where there is none.

    Raises:
        BadInputError: it cannot be read.
    """
    path = model_dir / LABELS_NAME
    try:
        return Labels.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Labels()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not what `autotag promote` writes: {error!r}. Delete it to start without labels"
        ) from error


def labels_lock(model_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Let one promotion at a time work on a folder of versions."""
    path = model_dir / LOCK_NAME
    return hold(path, AutotagError(f"another promotion or rollback works on {model_dir}: wait until it has ended"))
