"""The messages without TensorFlow, held against those of TensorFlow and tensorflow-serving-api."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.client import messages
from serving.client.messages import MESSAGES, TensorProto, from_tensor, to_tensor

NAMES = sorted(name for name, message in MESSAGES.items() if message.DESCRIPTOR.containing_type is None)
NUMBERS = [np.dtype(name) for name, _ in messages.DATA_TYPES.values()]


@pytest.fixture(scope="module")
def real() -> Any:
    """The pool with tensorflow-serving-api's and TensorFlow's own descriptors, and their message classes by name."""
    pytest.importorskip("tensorflow_serving", reason="the real messages come with tensorflow-serving-api")
    from google.protobuf import symbol_database
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,  # noqa: F401
        get_model_status_pb2,  # noqa: F401
        model_management_pb2,  # noqa: F401
        prediction_log_pb2,  # noqa: F401
    )

    return symbol_database.Default()


def described(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    """Fields by name: number, kind, label, oneof, and the type's full name."""
    return {
        field.name: (
            field.number,
            field.type,
            field.label,
            field.containing_oneof.name if field.containing_oneof else None,
            (field.message_type or field.enum_type).full_name if field.message_type or field.enum_type else None,
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize("name", NAMES)
def test_fields_have_the_real_names_numbers_and_types(name: str, real: Any) -> None:
    assert_agrees(MESSAGES[name].DESCRIPTOR, real.pool.FindMessageTypeByName(name))


def assert_agrees(ours: Any, theirs: Any) -> None:
    expected = described(theirs)
    assert described(ours) == {name: expected[name] for name in described(ours)}
    for nested in ours.nested_types:
        assert_agrees(nested, theirs.nested_types_by_name[nested.name])
    for enum in (*ours.enum_types, *(field.enum_type for field in ours.fields if field.enum_type)):
        known = {value.name: value.number for value in _real_enum(theirs, enum).values}
        assert {value.name: value.number for value in enum.values}.items() <= known.items()


def _real_enum(theirs: Any, enum: Any) -> Any:
    return next(
        candidate
        for candidate in (*theirs.enum_types, *(field.enum_type for field in theirs.fields if field.enum_type))
        if candidate.full_name == enum.full_name
    )


def fill(message: Any, depth: int = 0) -> Any:
    """Set every field of a message to something that is not its default; of a oneof the last one stays."""
    for number, field in enumerate(message.DESCRIPTOR.fields, start=3):
        repeated = field.label == field.LABEL_REPEATED
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.message_type:
                fill(getattr(message, field.name)["key"], depth + 1)
            else:
                getattr(message, field.name)["key"] = number
        elif field.message_type:
            target = getattr(message, field.name)
            fill(target.add() if repeated else target, depth + 1)
            if not repeated:
                target.SetInParent()
        else:
            scalar: Any = {field.TYPE_STRING: f"text {number}", field.TYPE_BYTES: b"\x00\xff%d" % number}.get(
                field.type, True if field.type == field.TYPE_BOOL else number
            )
            if field.enum_type:
                scalar = field.enum_type.values[-1].number
            if repeated:
                getattr(message, field.name).extend([scalar, scalar])
            else:
                setattr(message, field.name, scalar)
    return message


@pytest.mark.parametrize("name", NAMES)
def test_bytes_go_both_ways(name: str, real: Any) -> None:
    ours = fill(MESSAGES[name]())
    theirs = real.GetSymbol(name).FromString(ours.SerializeToString(deterministic=True))
    assert not _unknown_bytes(theirs), "the real message knows every field"
    back = MESSAGES[name].FromString(theirs.SerializeToString(deterministic=True))
    assert back == ours
    assert str(theirs) == str(ours), "and says the same"


def _unknown_bytes(message: Any) -> bool:
    known = type(message).FromString(message.SerializeToString())
    known.DiscardUnknownFields()
    return bool(known != message or len(known.SerializeToString()) != len(message.SerializeToString()))


def test_methods_are_the_real_services(real: Any) -> None:
    try:
        from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401
    except AttributeError as error:
        pytest.skip(f"tensorflow-serving-api's services do not load with this protobuf: {error}")
    methods = {}
    for service in messages.PredictRequest.DESCRIPTOR.file.services_by_name.values():
        theirs = real.pool.FindServiceByName(f"tensorflow.serving.{service.name}")
        for method in service.methods:
            other = theirs.methods_by_name[method.name]
            assert (other.input_type.name, other.output_type.name) == (method.input_type.name, method.output_type.name)
            methods[f"/{theirs.full_name}/{method.name}"] = method
    assert set(methods) == {
        messages.PREDICT,
        messages.CLASSIFY,
        messages.GET_MODEL_METADATA,
        messages.GET_MODEL_STATUS,
        messages.HANDLE_RELOAD_CONFIG,
    }


arrays = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays)
def test_array_comes_back_as_it_went(array: Any) -> None:
    back = from_tensor(TensorProto.FromString(to_tensor(array).SerializeToString()))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_strings_come_back_as_they_went(strings: list[bytes]) -> None:
    back = from_tensor(to_tensor(strings))
    assert back.shape == (len(strings),)
    assert back.tolist() == strings


def test_one_string_is_a_scalar_and_keeps_its_zeros() -> None:
    back = from_tensor(to_tensor(b"a\0\0"))
    assert back.shape == ()
    assert back.item() == b"a\0\0"


@settings(max_examples=40, deadline=None)
@given(arrays)
def test_tensorflow_reads_the_tensor_and_is_read(array: Any) -> None:
    tf = pytest.importorskip("tensorflow")
    theirs = tf.make_tensor_proto(array)
    read = tf.make_ndarray(type(theirs).FromString(to_tensor(array).SerializeToString()))
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(from_tensor(TensorProto.FromString(theirs.SerializeToString())), array)


def test_values_in_the_list_of_their_type_are_read_and_the_last_stands_for_the_rest() -> None:
    for number, (name, field) in messages.DATA_TYPES.items():
        tensor = TensorProto(dtype=number)
        tensor.tensor_shape.dim.add(size=2)
        tensor.tensor_shape.dim.add(size=2)
        getattr(tensor, field).extend([0, 1])
        expected = np.array([0, 1], np.uint16).view(np.float16) if field == "half_val" else np.array([0, 1], name)
        np.testing.assert_array_equal(from_tensor(tensor).ravel(), expected[[0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": 8}, "type number 8"),
        ({"dtype": 1, "tensor_content": b"\0" * 5}, "no whole number"),
        ({"dtype": 1, "tensor_content": b"\0" * 4}, "has 1 values"),
        ({"dtype": 1, "float_val": [1, 2, 3]}, "has 3 values"),
        ({"dtype": 1}, "has 0 values"),
        ({"dtype": 7, "string_val": []}, "has 0 values"),
    ],
)
def test_tensor_that_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    tensor = TensorProto(**changes)
    tensor.tensor_shape.dim.add(size=2)
    with pytest.raises(ValueError, match=words):
        from_tensor(tensor)


def test_shape_must_be_known() -> None:
    tensor = TensorProto(dtype=1)
    tensor.tensor_shape.dim.add(size=-1)
    with pytest.raises(ValueError, match="shape must be known"):
        from_tensor(tensor)
    tensor = TensorProto(dtype=1)
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="unknown rank"):
        from_tensor(tensor)


def test_few_bytes_do_not_claim_all_memory() -> None:
    tensor = TensorProto(dtype=1, float_val=[1])
    tensor.tensor_shape.dim.add(size=2**40)
    with pytest.raises(ValueError, match="has 1 values"):
        from_tensor(tensor)


@pytest.mark.parametrize("value", [["text"], np.array([1 + 2j]), np.array(["text"], dtype=object)])
def test_what_is_no_tensor_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        to_tensor(value)
