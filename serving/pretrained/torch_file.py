"""Weights in PyTorch's files (``.pth``), read without PyTorch and without running anything that a file says.

A ``.pth`` is a pickle, which Python's own reader executes: a file can name any function and have it called, and even a
reader that is kept from that can be made to take all memory. So the few instructions that ``torch.save`` writes for a
state dict are interpreted here one by one. Two names mean something, ``collections.OrderedDict`` and
``torch._utils._rebuild_tensor_v2``, and neither is called; types of storages are words that a dtype is looked up by;
everything else is refused. Every size that a file states is held against the bytes that are there before it is used.

Both layouts are read. Up to torch 1.5: five pickles in a row (a magic number, the protocol, the machine, the state
dict, the storages' keys), then each storage's number of values (int64) and its bytes. Since torch 1.6: a zip archive
that holds ``data.pkl`` and one file ``data/<key>`` a storage, not compressed.

Sources: torch/serialization.py (the layouts), Python's pickletools (the instructions).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from preprocessing.errors import BadInputError

MAGIC: Final = 0x1950A86A20F9469CFC6C
PROTOCOL: Final = 1001
LEGACY_START: Final = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
"""First bytes of a file of torch 1.5 and before: a pickle of its magic number."""

ZIP_START: Final = b"PK\x03\x04"
LARGEST_PICKLE: Final = 2 << 20
"""Bytes. A tensor takes about 200 of them; its values lie elsewhere."""

DTYPES: Final[Mapping[str, str]] = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
}
ORDERED_DICT: Final = "collections.OrderedDict"
REBUILD_TENSOR: Final = "torch._utils._rebuild_tensor_v2"
NAMES: Final = frozenset({ORDERED_DICT, REBUILD_TENSOR, *DTYPES})

Array = npt.NDArray[Any]

_ZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, RuntimeError, EOFError)
"""What zipfile raises for archives that are broken, encrypted or of a kind that it does not know."""


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's do; a zip archive counts where it holds a ``data.pkl``."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_START))
        if start == LEGACY_START:
            return True
        if not start.startswith(ZIP_START):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except _ZIP_ERRORS:
        return False


def read_state_dict(path: Path) -> dict[str, Array]:
    """Return the tensors of a state dict by name, in the file's order, read-only; tied ones share memory.

    Raises:
        BadInputError: the file is missing, no state dict of torch's, cut, or asks for what weights have no need of.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        if content.startswith(LEGACY_START):
            return _read_legacy(content)
        if content.startswith(ZIP_START):
            return _read_zip(content)
    except _RefusedError as refusal:
        raise BadInputError(f"{path}: {refusal}") from refusal
    raise BadInputError(f"{path}: no file of torch.save: it begins with neither its magic number nor a zip archive")


class _RefusedError(Exception):
    """What is wrong with a file, in words that follow its path."""


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names, as a word."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Where a tensor's values lie."""

    dtype: str
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, in values."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Mark:
    """Where a group of values on the stack begins."""


def _refuse(message: str) -> NoReturn:
    raise _RefusedError(message)


class _Pickle:
    """Interprets one pickle that begins at ``start``; ``end`` is where it ended once ``load`` has returned.

    Values are Python's own (int, float, bool, None, str, tuple, list, dict) and _Name, _Storage, _Tensor. A value that
    several others hold is one object, so that the work and the memory are bounded by the bytes that were read.
    """

    def __init__(self, content: bytes, start: int = 0) -> None:
        self.content = content
        self.end = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the value.

        Raises:
            _RefusedError: an instruction is unknown, out of place, or names what is not allowed.
        """
        start = self.end
        while True:
            if self.end - start > LARGEST_PICKLE:
                _refuse(f"its pickle is longer than {LARGEST_PICKLE >> 20} MiB, which no network needs")
            code = self._take(1)
            if code == b".":
                return self._pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                _refuse(
                    f"its pickle has the instruction {code.hex()} at byte {self.end - 1}, which weights do not need"
                )
            instruction(self)

    def _take(self, count: int) -> bytes:
        taken = self.content[self.end : self.end + count]
        if len(taken) < count:
            _refuse("it is cut: its pickle does not end")
        self.end += count
        return taken

    def _integer(self, layout: str) -> int:
        value: int = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        return value

    def _line(self) -> str:
        end = self.content.find(b"\n", self.end, self.end + 256)
        if end < 0:
            _refuse("its pickle has a name without an end")
        return _text(self._take(end + 1 - self.end)[:-1])

    def _pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            _refuse("its pickle is broken: it takes a value that is not there")
        return self.stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _group(self) -> list[Any]:
        """Take the values above the last mark, and the mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                group = self.stack[place + 1 :]
                del self.stack[place:]
                return group
        _refuse("its pickle is broken: it takes a group that does not begin")

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def proto(self) -> None:
        if (version := self._take(1)[0]) > 4:
            _refuse(f"its pickle is of protocol {version}; torch writes 2")

    def name(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in NAMES:
            _refuse(f"it names {name!r}, which weights have no need of; such a file may do harm where it is trusted")
        self._push(_Name(name))

    def text(self) -> None:
        self._push(_text(self._take(self._integer("<I"))))

    def long(self) -> None:
        self._push(int.from_bytes(self._take(self._take(1)[0]), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def put(self, layout: str) -> None:
        self.memo[self._integer(layout)] = self._top()

    def get(self, layout: str) -> None:
        place = self._integer(layout)
        if place not in self.memo:
            _refuse("its pickle is broken: it asks for a value that was not stored")
        self._push(self.memo[place])

    def set_items(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict or len(items) % 2:
            _refuse("its pickle is broken: it sets items of what has none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                _refuse(f"it has a key of type {_kind(key)} where a name is expected")
            target[key] = value

    def set_item(self) -> None:
        value = self._pop()
        self.set_items([self._pop(), value])

    def append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            _refuse("its pickle is broken: it appends to what is no list")
        target.extend(items)

    def storage(self) -> None:
        self._push(_storage(self._pop()))

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            _refuse("its pickle calls what is no function")
        if function.name == ORDERED_DICT and not arguments:
            self._push({})
        elif function.name == REBUILD_TENSOR:
            self._push(_tensor(arguments))
        else:
            _refuse(f"it calls {function.name} with {len(arguments)} values, which weights have no need of")

    def build(self) -> None:
        """Leave out what a state dict has as an attribute: the version of each module."""
        state = self._pop()
        if type(state) is not dict or type(self._top()) is not dict:
            _refuse("it sets attributes of what is no state dict")


_INSTRUCTIONS: Final[Mapping[bytes, Callable[[_Pickle], None]]] = {
    b"\x80": _Pickle.proto,
    b"(": lambda pickle: pickle._push(_Mark()),
    b")": lambda pickle: pickle._push(()),
    b"]": lambda pickle: pickle._push([]),
    b"}": lambda pickle: pickle._push({}),
    b"N": lambda pickle: pickle._push(None),
    b"\x88": lambda pickle: pickle._push(True),
    b"\x89": lambda pickle: pickle._push(False),
    b"K": lambda pickle: pickle._push(pickle._take(1)[0]),
    b"M": lambda pickle: pickle._push(pickle._integer("<H")),
    b"J": lambda pickle: pickle._push(pickle._integer("<i")),
    b"\x8a": _Pickle.long,
    b"X": _Pickle.text,
    b"c": _Pickle.name,
    b"t": lambda pickle: pickle._push(tuple(pickle._group())),
    b"\x85": lambda pickle: pickle.tuple_of(1),
    b"\x86": lambda pickle: pickle.tuple_of(2),
    b"\x87": lambda pickle: pickle.tuple_of(3),
    b"a": lambda pickle: pickle.append([pickle._pop()]),
    b"e": lambda pickle: pickle.append(pickle._group()),
    b"s": _Pickle.set_item,
    b"u": lambda pickle: pickle.set_items(pickle._group()),
    b"q": lambda pickle: pickle.put("<B"),
    b"r": lambda pickle: pickle.put("<I"),
    b"h": lambda pickle: pickle.get("<B"),
    b"j": lambda pickle: pickle.get("<I"),
    b"Q": _Pickle.storage,
    b"R": _Pickle.reduce,
    b"b": _Pickle.build,
}
"""By their byte, those of Python's pickle protocol 2 that a state dict needs."""


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        _refuse("its pickle has a text that is not UTF-8")


def _kind(value: Any) -> str:
    return type(value).__name__.strip("_").lower()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _storage(description: Any) -> _Storage:
    """Of ('storage', type, key, device, number of values) and, in the older layout, no view of another."""
    if type(description) is not tuple or len(description) not in (5, 6) or description[5:] not in ((), (None,)):
        _refuse("it refers to something outside the pickle that is no storage")
    kind, type_name, key, _, numel = description[:5]
    if type(kind) is not str or kind != "storage" or not isinstance(type_name, _Name) or type_name.name not in DTYPES:
        _refuse("it refers to something outside the pickle that is no storage")
    if type(key) is not str or not _is_count(numel):
        _refuse("a storage has no key or no number of values")
    return _Storage(DTYPES[type_name.name], key, numel)


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """Of storage, offset, size, stride; whether it learns and its hooks follow and are left out.

    It has values, its last one lies within the storage, and it has no more of them than the storage: an expanded view
    of few values could take any amount of memory.
    """
    if not 4 <= len(arguments) <= 7:
        _refuse(f"a tensor is described by {len(arguments)} values")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage):
        _refuse("a tensor has no storage")
    counts = (size, stride)
    if any(type(values) is not tuple or not all(map(_is_count, values)) for values in counts) or not _is_count(offset):
        _refuse("a tensor's offset, size or stride is not made of whole numbers")
    if len(size) != len(stride) or len(size) > 32:
        _refuse(f"a tensor has {len(size)} sizes and {len(stride)} strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if not 0 < count <= storage.numel or last >= storage.numel:
        _refuse(f"a tensor of size {size} does not lie within its storage of {storage.numel} values")
    return _Tensor(storage, offset, size, tuple(min(step, storage.numel) for step in stride))


def _tensors(state_dict: Any) -> dict[str, _Tensor]:
    if type(state_dict) is not dict:
        _refuse(f"it holds no state dict, but a value of type {_kind(state_dict)}")
    for name, value in state_dict.items():
        if not isinstance(value, _Tensor):
            _refuse(f"{name[:80]!r} is of type {_kind(value)}, no tensor; save the network's state_dict() alone")
    return state_dict


def _storages(tensors: Mapping[str, _Tensor], available: int) -> dict[str, _Storage]:
    """Return what the tensors refer to, by key; not more bytes than the file has."""
    storages: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            _refuse(f"storage {tensor.storage.key[:80]!r} is described in two ways")
    needed = sum(storage.nbytes for storage in storages.values())
    if needed > available:
        _refuse(f"its tensors need {needed:,} bytes, and it has {available:,}: it is cut, or no weights")
    return storages


def _arrays(tensors: Mapping[str, _Tensor], values: Mapping[str, Array]) -> dict[str, Array]:
    arrays = {}
    for name, tensor in tensors.items():
        flat = values[tensor.storage.key]
        steps = [step * flat.itemsize for step in tensor.stride]
        arrays[name] = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, steps, writeable=False)
    return arrays


def _read_legacy(content: bytes) -> dict[str, Array]:
    pickles = []
    end = 0
    for _ in range(5):
        pickle = _Pickle(content, end)
        pickles.append(pickle.load())
        end = pickle.end
    magic, protocol, machine, state_dict, keys = pickles
    if type(magic) is not int or magic != MAGIC or type(protocol) is not int or protocol != PROTOCOL:
        _refuse(f"no file of torch.save with protocol {PROTOCOL}")
    if type(machine) is not dict or machine.get("little_endian") is not True:
        _refuse("it was written by a machine whose byte order is not little-endian; save it on another")
    if type(keys) is not list or not all(type(key) is str for key in keys):
        _refuse("its list of storages is none")
    tensors = _tensors(state_dict)
    storages = _storages(tensors, len(content) - end)
    if set(keys) != set(storages) or len(keys) != len(storages):
        _refuse("its list of storages is not that of its tensors")
    values = {}
    for key in keys:
        storage = storages[key]
        if content[end : end + 8] != storage.numel.to_bytes(8, "little"):
            _refuse(f"storage {key[:80]!r} should have {storage.numel:,} values, and the file says otherwise or is cut")
        end += 8
        if len(content) - end < storage.nbytes:
            _refuse(f"it is cut: storage {key[:80]!r} has {len(content) - end:,} bytes instead of {storage.nbytes:,}")
        values[key] = np.frombuffer(content, storage.dtype, storage.numel, end).copy()
        end += storage.nbytes
    if end != len(content):
        _refuse(f"{len(content) - end:,} bytes follow its last storage")
    return _arrays(tensors, values)


def _read_zip(content: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read_archive(archive, len(content))
    except _ZIP_ERRORS as error:
        raise _RefusedError(f"its zip archive cannot be read: {error}") from error


def _read_archive(archive: zipfile.ZipFile, file_size: int) -> dict[str, Array]:
    pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        _refuse(f"its zip archive holds {len(pickles)} files data.pkl; torch.save writes one")
    folder = pickles[0].filename[: -len("data.pkl")]
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        _refuse("its zip archive holds a name twice")

    def content(entry: zipfile.ZipInfo, largest: int) -> bytes:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > min(largest, file_size):
            _refuse(f"{entry.filename} in its zip archive is compressed or too large; torch.save does neither")
        return archive.read(entry)

    byte_order = entries.get(f"{folder}byteorder")
    if byte_order is not None and content(byte_order, 64) != b"little":
        _refuse("it was written by a machine whose byte order is not little-endian; save it on another")
    tensors = _tensors(_Pickle(content(pickles[0], LARGEST_PICKLE)).load())
    values = {}
    for key, storage in _storages(tensors, file_size).items():
        entry = entries.get(f"{folder}data/{key}")
        if entry is None or entry.file_size != storage.nbytes:
            _refuse(f"storage {key[:80]!r} should have {storage.nbytes:,} bytes, and the archive says otherwise")
        values[key] = np.frombuffer(content(entry, storage.nbytes), storage.dtype)
    return _arrays(tensors, values)
