"""Files as ``torch.save`` writes them, without PyTorch: Python's own pickler, and names that stand for torch's."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char"}
STORAGES["u1"] = "Byte"


@dataclass
class Storage:
    """Flat values under a key; ``numel`` and ``type_name`` are what the file says of them."""

    key: str
    values: np.ndarray
    numel: Any = None
    type_name: str = ""


@dataclass
class Tensor:
    """A view of a storage, in values."""

    storage: Any
    offset: Any
    size: Any
    stride: Any

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, self.offset, self.size, self.stride, False, OrderedDict())


def tensor(array: np.ndarray, key: str) -> Tensor:
    """A tensor with a storage of its own."""
    return Tensor(Storage(key, array.reshape(-1)), 0, array.shape, tuple(s // array.itemsize for s in array.strides))


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Each array as a tensor with a storage of its own."""
    return {name: tensor(np.ascontiguousarray(array), str(n)) for n, (name, array) in enumerate(arrays.items())}


@contextmanager
def torch_names() -> Iterator[None]:
    """Modules ``torch`` and ``torch._utils`` that hold nothing but the names that a pickle has."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in (*STORAGES.values(), "BFloat16"):
        setattr(torch, f"{name}Storage", type(f"{name}Storage", (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*args: object) -> None:
        raise AssertionError("was called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def pickled(value: Any, legacy: bool = True) -> bytes:
    """``value`` as torch's pickler writes it, its storages as references."""

    class Pickler(pickle._Pickler):  # the one in Python, which writes what the one in C does
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Storage):
                return None
            type_name = obj.type_name or f"{STORAGES[obj.values.dtype.str[1:]]}Storage"
            numel = obj.values.size if obj.numel is None else obj.numel
            return ("storage", getattr(sys.modules["torch"], type_name), obj.key, "cpu", numel, *[None] * legacy)

    file = io.BytesIO()
    with torch_names():
        Pickler(file, 2).dump(value)
    return file.getvalue()


def state_dict(entries: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """The entries with the attribute that torch's state dicts have."""
    entries = OrderedDict(entries)
    entries._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return entries


def storages_of(entries: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Values of all storages by key."""
    return {entry.storage.key: entry.storage.values for entry in entries.values()}


def legacy_file(
    entries: Mapping[str, Any],
    *,
    magic: Any = MAGIC,
    protocol: Any = 1001,
    machine: Any = MACHINE,
    keys: Any = None,
    counts: Mapping[str, int] | None = None,
) -> bytes:
    """A file of torch 1.5 and before; what is given besides the entries stands in place of what is right."""
    storages = storages_of(entries)
    content = b"".join(pickle.dumps(value, 2) for value in (magic, protocol, machine))
    content += pickled(state_dict(entries))
    content += pickle.dumps(sorted(storages) if keys is None else keys, 2)
    for key in sorted(storages):
        count = (counts or {}).get(key, storages[key].size)
        content += struct.pack("<q", count) + storages[key].tobytes()
    return content


def zip_file(
    entries: Mapping[str, Any],
    *,
    compression: int = zipfile.ZIP_STORED,
    byte_order: bytes | None = b"little",
    leave_out: str | None = None,
    twice: str | None = None,
) -> bytes:
    """A file of torch 1.6 and after."""
    files = {"data.pkl": pickled(state_dict(entries), legacy=False), "version": b"3\n"}
    files |= {} if byte_order is None else {"byteorder": byte_order}
    files |= {f"data/{key}": values.tobytes() for key, values in storages_of(entries).items()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, value in files.items():
            if name != leave_out:
                archive.writestr(f"best_model/{name}", value)
        if twice is not None:
            archive.writestr(f"other/{twice}", files[twice])
    return content.getvalue()
