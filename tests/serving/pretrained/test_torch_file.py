from __future__ import annotations

import codecs
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import MACHINE, MAGIC, Storage, Tensor, legacy_file, pickled, tensors, zip_file

from preprocessing.errors import BadInputError
from serving.pretrained.torch_file import NAMES, is_torch_file, read_state_dict

WEIGHTS = Path(__file__).parents[4] / "shared" / "weights"
RNG = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RNG.normal(size=(4, 3, 3, 2)).astype(np.float32),
    "conv.bias": RNG.normal(size=4).astype(np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "half": RNG.normal(size=(2, 5)).astype(np.float16),
    "double": RNG.normal(size=3),
    "bytes": np.arange(5, dtype=np.uint8),
}
LAYOUTS = {"legacy": legacy_file, "zip": zip_file}
VALID = {name: write(tensors(ARRAYS)) for name, write in LAYOUTS.items()}
FORBIDDEN = ("pickle.find_class", "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")

watched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event in FORBIDDEN:
        watched.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_watch)
codecs.lookup("cp437")  # of names in zip archives; Python imports it when it is first asked for


@pytest.fixture(params=LAYOUTS)
def write(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    return LAYOUTS[request.param]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch") / "model.pth"


def read(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Read the content, and fail where reading looked up, compiled or started anything."""
    global watched
    path.write_bytes(content)
    watched = []
    try:
        return read_state_dict(path)
    finally:
        seen, watched = watched, None
        assert seen == []


def assert_refused(path: Path, content: bytes, match: str) -> None:
    with pytest.raises(BadInputError, match=match) as refusal:
        read(path, content)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 500 + len(str(path))


def test_tensors_come_back_as_they_were_saved(path: Path, write: Callable[..., bytes]) -> None:
    arrays = read(path, write(tensors(ARRAYS)))
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert is_torch_file(path)


def test_views_of_one_storage_are_cut_out_of_it(path: Path, write: Callable[..., bytes]) -> None:
    values = np.arange(24, dtype=np.float32)
    storage = Storage("5", values)
    entries = {
        "whole": Tensor(storage, 0, (24,), (1,)),
        "end": Tensor(storage, 20, (2, 2), (2, 1)),
        "transposed": Tensor(storage, 0, (4, 6), (1, 4)),
        "one": Tensor(storage, 23, (1, 1), (2**40, 7)),
    }
    arrays = read(path, write(entries))
    np.testing.assert_array_equal(arrays["whole"], values)
    np.testing.assert_array_equal(arrays["end"], [[20, 21], [22, 23]])
    np.testing.assert_array_equal(arrays["transposed"], values.reshape(6, 4).T)
    np.testing.assert_array_equal(arrays["one"], [[23]])


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="published weights are not beside the checkout")
def test_published_files_are_read_whole() -> None:
    sizes = {
        path.relative_to(WEIGHTS).as_posix(): sum(
            array.size
            for name, array in read_state_dict(path).items()
            if not name.startswith("spec.") and not name.endswith("tracked")
        )
        for path in sorted(WEIGHTS.rglob("*.pth"))
    }
    assert sizes == {
        "jamendo_baseline/moodtheme_fcn.pth": 449_148,
        **{f"sota/{data}/crnn.pth": 394_998 for data in ("jamendo", "msd", "mtat")},
        **{f"sota/{data}/fcn.pth": 448_758 for data in ("jamendo", "msd", "mtat")},
        **{f"sota/{data}/musicnn.pth": 786_208 for data in ("jamendo", "mtat")},
    }


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


HOSTILE = {
    "os.system": Call(os.system, "touch ran"),
    "eval": Call(eval, "open('ran', 'w')"),
    "exec": Call(exec, "open('ran', 'w')"),
    "getattr": Call(getattr, "", "join"),
    "__import__": Call(__import__, "antigravity"),
    "a class": Call(bytearray, 2**40),
    "numpy": np.zeros(3),
    "a class's instance": Path("ran"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_names_another_function_is_refused_and_not_run(
    path: Path, write: Callable[..., bytes], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hidden = Tensor(Storage("0", np.zeros(3, np.float32)), 0, (3,), HOSTILE[name])
    assert_refused(path, write({"weight": hidden}), r"it names '[\w.]+', which weights have no need of|instruction")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["magic", "protocol", "machine", "keys"])
def test_no_pickle_of_an_old_file_may_call(path: Path, place: str, tmp_path: Path) -> None:
    evil = Call(os.system, f"touch {tmp_path}/ran")
    with pytest.raises(BadInputError):
        read(path, legacy_file(tensors(ARRAYS), **{place: evil}))
    assert list(tmp_path.iterdir()) == []


def pickle_of(body: bytes) -> bytes:
    """An old file whose state dict is ``body``."""
    return b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, MACHINE)) + body


OS_SYSTEM = b"cposix\nsystem\n"
RAW = {
    "INST": (b"\x80\x02(X\x02\x00\x00\x00lsiposix\nsystem\n.", "the instruction 69"),
    "OBJ": (b"\x80\x02(cbuiltins\neval\nX\x01\x00\x00\x001o.", "it names 'builtins.eval'"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "the instruction 8c"),
    "EXT1": (b"\x80\x02\x82\x01.", "the instruction 82"),
    "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the instruction 81"),
    "a call of OrderedDict with values": (
        b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.",
        "it calls collections.OrderedDict with 2 values",
    ),
    "a call of a storage's type": (
        b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.",
        "it calls torch.FloatStorage with 1 values",
    ),
    "a call of what is no function": (b"\x80\x02K\x01)R.", "calls what is no function"),
    "attributes of a function": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
        "sets attributes of what is no state dict",
    ),
    "state of a dict that is no dict": (b"\x80\x02}(K\x01K\x02tb.", "sets attributes of what is no state dict"),
    "items of a number": (b"\x80\x02K\x01(K\x02K\x03u.", "sets items of what has none"),
    "an odd number of items": (b"\x80\x02}(K\x02u.", "sets items of what has none"),
    "a key that is no text": (b"\x80\x02}K\x01K\x02s.", "a key of type int"),
    "a key of nested tuples": (b"\x80\x02}(" + b"))\x86" + b"q\x00h\x00\x86" * 200 + b"K\x01u.", "a key of type tuple"),
    "appending to a dict": (b"\x80\x02}K\x01a.", "appends to what is no list"),
    "a value that was not stored": (b"\x80\x02h\x07.", "asks for a value that was not stored"),
    "an empty stack": (b"\x80\x02.", "takes a value that is not there"),
    "a mark as value": (b"\x80\x02(.", "takes a value that is not there"),
    "a group without a mark": (b"\x80\x02K\x01t.", "takes a group that does not begin"),
    "a tuple of a mark": (b"\x80\x02(K\x01\x86.", "takes a value that is not there"),
    "text that is not UTF-8": (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "not UTF-8"),
    "text that is longer than the file": (b"\x80\x02X\xff\xff\xff\xffab.", "it is cut"),
    "a name without an end": (b"\x80\x02c" + b"a" * 2000 + b".", "a name without an end"),
    "a protocol of the future": (b"\x80\x09N.", "of protocol 9"),
    "a number": (b"\x80\x02K\x01.", "it holds no state dict, but a value of type int"),
    "a list": (b"\x80\x02].", "it holds no state dict, but a value of type list"),
    "a dict of numbers": (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "'a' is of type int, no tensor"),
    "a reference that is no storage": (b"\x80\x02X\x01\x00\x00\x00aQ.", "outside the pickle that is no storage"),
    "a reference of another kind": (
        b"\x80\x02(X\x06\x00\x00\x00moduleNNNNtQ.",
        "outside the pickle that is no storage",
    ),
    "a name that is a function as a state dict": (
        b"\x80\x02ccollections\nOrderedDict\n.",
        "it holds no state dict, but a value of type name",
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_instruction_that_no_state_dict_has_is_refused(path: Path, name: str) -> None:
    body, match = RAW[name]
    assert_refused(path, pickle_of(body) + pickle.dumps([], 2), match)


@pytest.mark.parametrize("instruction", [b"r", b"j"])
def test_far_place_in_the_memo_takes_no_memory(path: Path, instruction: bytes) -> None:
    content = pickle_of(
        b"\x80\x02N" + b"".join(instruction + struct.pack("<I", 2**32 - 1 - n) for n in range(9)) + b"."
    )
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadInputError):
        read_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_values_that_hold_each_other_many_times_are_neither_copied_nor_printed(path: Path) -> None:
    doubled = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(200))
    content = pickle_of(b"\x80\x02}X\x01\x00\x00\x00a)" + doubled + b"s.") + pickle.dumps([], 2)
    assert_refused(path, content, "'a' is of type tuple, no tensor")


def test_pickle_that_is_too_long_is_refused(path: Path) -> None:
    assert_refused(path, pickle_of(b"\x80\x02" + b"N" * (3 << 20) + b"."), "longer than 2 MiB")


BAD_TENSORS = {
    "more values than the storage": (0, (13,), (1,)),
    "past the end": (5, (8,), (1,)),
    "an offset past the end": (12, (1,), (1,)),
    "strides past the end": (0, (2, 2), (1, 11)),
    "an expanded view": (0, (2**40,), (0,)),
    "a huge size": (0, (2**62, 2**62), (1, 1)),
    "no values": (0, (0, 5), (1, 1)),
    "a negative size": (0, (-1,), (1,)),
    "a negative stride": (11, (3,), (-1,)),
    "a negative offset": (-1, (1,), (1,)),
    "an offset that is no number": ("0", (1,), (1,)),
    "a size that is a truth value": (0, (True,), (1,)),
    "more sizes than strides": (0, (2, 2), (1,)),
    "forty axes": (0, (1,) * 40, (1,) * 40),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensor_that_does_not_lie_within_its_storage_is_refused(
    path: Path, write: Callable[..., bytes], name: str
) -> None:
    entry = Tensor(Storage("0", np.zeros(12, np.float32)), *BAD_TENSORS[name])
    assert_refused(path, write({"weight": entry}), "a tensor")


@pytest.mark.parametrize("numel", [2**60, 2**70, -1, 0, "12", True, None.__class__])
def test_storage_of_another_size_than_the_file_holds_is_refused(
    path: Path, write: Callable[..., bytes], numel: Any
) -> None:
    entry = Tensor(Storage("0", np.zeros(12, np.float32), numel=numel), 0, (1,), (1,))
    with pytest.raises(BadInputError):
        read(path, write({"weight": entry}))


def test_storage_of_a_type_that_numpy_lacks_is_refused_by_name(path: Path, write: Callable[..., bytes]) -> None:
    entry = Tensor(Storage("0", np.zeros(12, np.float32), type_name="BFloat16Storage"), 0, (1,), (1,))
    assert_refused(path, write({"weight": entry}), r"it names 'torch\.BFloat16Storage'")


def test_storage_that_is_described_in_two_ways_is_refused(path: Path, write: Callable[..., bytes]) -> None:
    values = np.zeros(12, np.float32)
    entries = {
        "a": Tensor(Storage("0", values), 0, (1,), (1,)),
        "b": Tensor(Storage("0", values, numel=11), 0, (1,), (1,)),
    }
    assert_refused(path, write(entries), "described in two ways")


def test_whole_network_instead_of_its_state_dict_is_refused_with_what_to_do(path: Path) -> None:
    entries = {"epoch": Tensor(Storage("0", np.zeros(1, np.float32)), 0, (1,), (1,))}
    body = pickled({"state_dict": entries}, legacy=True)
    assert_refused(
        path, pickle_of(body) + pickle.dumps(["0"], 2), r"'state_dict' is of type dict, no tensor; save .*state_dict"
    )


def test_old_file_that_is_not_as_torch_writes_it_is_refused(path: Path) -> None:
    entries = tensors(ARRAYS)
    for wrong, match in (
        ({"magic": 5}, "it begins with neither its magic number nor a zip archive"),
        ({"protocol": 1002}, "no file of torch.save with protocol 1001"),
        ({"machine": {"little_endian": False}}, "byte order"),
        ({"machine": None}, "byte order"),
        ({"keys": {"0": 1}}, "its list of storages is none"),
        ({"keys": ["0", "1"]}, "its list of storages is not that of its tensors"),
        ({"keys": ["0", "1", "2", "3", "4", "5", "5"]}, "its list of storages is not that of its tensors"),
        ({"counts": {"1": 5}}, "storage '1' should have 4 values, and the file says otherwise"),
    ):
        assert_refused(path, legacy_file(entries, **wrong), match)
    assert_refused(path, VALID["legacy"] + b"\0", "1 bytes follow its last storage")


def test_archive_that_is_not_as_torch_writes_it_is_refused(path: Path) -> None:
    entries = tensors(ARRAYS)
    for wrong, match in (
        ({"compression": zipfile.ZIP_DEFLATED}, "is compressed or too large"),
        ({"byte_order": b"big"}, "byte order"),
        ({"leave_out": "data/1"}, "storage '1' should have 16 bytes"),
        ({"leave_out": "data.pkl"}, "holds 0 files data.pkl"),
        ({"twice": "data.pkl"}, "holds 2 files data.pkl"),
    ):
        assert_refused(path, zip_file(entries, **wrong), match)
    assert zip_file(entries, byte_order=None)


def test_archive_whose_entries_share_their_bytes_gives_no_more_than_the_file_has(path: Path) -> None:
    values = np.zeros(4096, np.float32)
    entries = {
        str(n): Tensor(Storage(str(n), values if n == 0 else values[:0], numel=4096), 0, (1,), (1,)) for n in range(9)
    }
    assert_refused(path, zip_file(entries), r"its tensors need 147,456 bytes, and it has \d\d,\d{3}")


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04", b"PK\x03\x04" + bytes(99), b"\x89HDF\r\n\x1a\n", b"{}"]
)
def test_file_of_another_kind_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(BadInputError, match=r"model\.pth: "):
        read(path, content)
    assert not is_torch_file(path)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.pth: cannot be read: No such file"):
        read_state_dict(tmp_path / "nowhere.pth")
    assert not is_torch_file(tmp_path / "nowhere.pth")


def test_names_that_mean_something_are_those_of_a_state_dict_alone() -> None:
    assert {name for name in NAMES if not name.endswith("Storage")} == {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
    }


def assert_read_or_refused(path: Path, content: bytes) -> None:
    """Either arrays of no more bytes than the file, or a refusal: nothing else, whatever the content."""
    try:
        arrays = read(path, content)
    except BadInputError:
        return
    assert all(isinstance(array, np.ndarray) and array.nbytes <= len(content) for array in arrays.values())
    assert all(array.copy().size for array in arrays.values())


fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(layout=st.sampled_from(list(VALID)), data=st.data())
def test_cut_file_is_refused(path: Path, layout: str, data: st.DataObject) -> None:
    content = VALID[layout]
    with pytest.raises(BadInputError):
        read(path, content[: data.draw(st.integers(0, len(content) - 1))])


@fuzz
@given(layout=st.sampled_from(list(VALID)), data=st.data())
def test_file_with_other_bytes_is_read_or_refused(path: Path, layout: str, data: st.DataObject) -> None:
    content = bytearray(VALID[layout])
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    ):
        content[place] = value
    assert_read_or_refused(path, bytes(content))


@fuzz
@given(
    layout=st.sampled_from(list(VALID)),
    start=st.integers(0, 2000),
    length=st.integers(0, 40),
    put=st.binary(max_size=40),
)
def test_file_with_a_piece_replaced_is_read_or_refused(
    path: Path, layout: str, start: int, length: int, put: bytes
) -> None:
    content = VALID[layout]
    assert_read_or_refused(path, content[:start] + put + content[start + length :])


INSTRUCTIONS = st.sampled_from(
    [
        *(bytes([code]) for code in b"()]}NtRbQsuae\x85\x86\x87\x88\x89.0"),
        b"K\x03",
        b"X\x01\x00\x00\x00a",
        b"X\x07\x00\x00\x00storage",
        b"q\x00",
        b"h\x00",
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        OS_SYSTEM,
    ]
)


@fuzz
@given(instructions=st.lists(INSTRUCTIONS, max_size=60))
def test_any_order_of_instructions_is_read_or_refused(path: Path, instructions: list[bytes]) -> None:
    assert_read_or_refused(path, pickle_of(b"\x80\x02" + b"".join(instructions) + b".") + pickle.dumps([], 2))
