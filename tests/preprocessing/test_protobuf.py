"""Message classes from the committed descriptor sets, and the sets against the texts that they are made of."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from preprocessing.protobuf import message_classes

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    {
        path.parent
        for room in ("preprocessing", "pipeline", "serving", "tests")
        for path in (ROOT / room).rglob("*.proto")
    }
)
EXAMPLES = ROOT / "preprocessing" / "protos"


def own_files(content: bytes) -> dict[str, Any]:
    """What the texts say: protobuf's own files are as the protoc has them."""
    files = descriptor_pb2.FileDescriptorSet.FromString(content).file
    return {file.name: file for file in files if not file.name.startswith("google/protobuf/")}


def protoc() -> list[str]:
    if importlib.util.find_spec("grpc_tools"):
        return [sys.executable, "-m", "grpc_tools.protoc"]
    found = shutil.which("protoc")
    return [found] if found else []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_descriptor_set_is_what_protoc_makes_of_the_texts(folder: Path, tmp_path: Path) -> None:
    if not (compiler := protoc()):
        pytest.skip("needs protoc or the package grpcio-tools")
    texts = sorted(path.name for path in folder.glob("*.proto"))
    made = tmp_path / "descriptors.binpb"
    subprocess.run(
        [*compiler, "-I.", "--include_imports", f"--descriptor_set_out={made}", *texts], cwd=folder, check=True
    )
    assert own_files((folder / "descriptors.binpb").read_bytes()) == own_files(made.read_bytes()), "run `make protos`"


def declared(text: str) -> Counter[tuple[str, str]]:
    """Names of a proto3 text with their kinds, and of fields and values with their numbers."""
    text = re.sub(r"//[^\n]*", "", text)
    named = re.findall(r"\b(message|enum|oneof|service|rpc)\s+(\w+)", text)
    return Counter([*named, *re.findall(r"(\w+)\s*=\s*(-?\d+)\s*;", text)])


def described(message: Any) -> Iterator[tuple[str, str]]:
    """The same of a message, a service, an enum or a whole file."""
    for kind, field in (("message", "message_type"), ("message", "nested_type"), ("enum", "enum_type")):
        for inner in getattr(message, field, []):
            if not (kind == "message" and inner.options.map_entry):
                yield kind, inner.name
                yield from described(inner)
    for kind, field in (("oneof", "oneof_decl"), ("service", "service"), ("rpc", "method")):
        for inner in getattr(message, field, []):
            yield kind, inner.name
            yield from described(inner)
    for numbered in ("field", "value"):
        for inner in getattr(message, numbered, []):
            yield inner.name, str(inner.number)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_descriptor_set_has_the_names_and_numbers_of_the_texts(folder: Path) -> None:
    files = own_files((folder / "descriptors.binpb").read_bytes())
    assert set(files) == {path.name for path in folder.glob("*.proto")}
    for name, file in files.items():
        assert Counter(described(file)) == declared((folder / name).read_text(encoding="utf-8")), "run `make protos`"


def test_messages_are_built_and_read_back() -> None:
    example_type = message_classes(EXAMPLES)["tensorflow.Example"]
    example = example_type()
    example.features.feature["tags"].bytes_list.value.append(b"\x00")
    example.features.feature["level"].float_list.value.append(0.5)
    read = example_type.FromString(example.SerializeToString())
    assert read == example
    assert {name: feature.WhichOneof("kind") for name, feature in read.features.feature.items()} == {
        "tags": "bytes_list",
        "level": "float_list",
    }


def test_lists_of_numbers_are_packed_as_proto3_has_it() -> None:
    numbers = message_classes(EXAMPLES)["tensorflow.Int64List"](value=[1, 2, 3])
    assert numbers.SerializeToString() == bytes([1 << 3 | 2, 3, 1, 2, 3])


def test_messages_of_one_name_live_beside_each_other() -> None:
    ours = message_classes(EXAMPLES)["tensorflow.Example"].DESCRIPTOR.file.pool
    clients = message_classes(ROOT / "serving" / "client" / "protos")["tensorflow.Example"].DESCRIPTOR.file.pool
    assert len({id(pool) for pool in (ours, clients, descriptor_pool.Default())}) == 3
