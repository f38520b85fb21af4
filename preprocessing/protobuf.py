"""Message classes from text in the proto3 language, without protoc and without the packages that own the messages.

TensorFlow's and TF Serving's messages come with a gigabyte of TensorFlow. What a Beam worker or a client needs of them
is a few fields, written down as ``.proto`` text (any other language's tools read the same files) and built here in a
descriptor pool of its own: the default pool may hold TensorFlow's messages of the same names. Works with protobuf 3.20
and with 4.22 and later.

The language's part that is understood: ``syntax``, ``package``, ``import``, ``option``, ``message`` (nested ones too),
``enum``, ``oneof``, ``map<..>``, ``repeated``, ``service`` with unary methods, comments (https://protobuf.dev/reference/protobuf/proto3-spec).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from preprocessing.digits import is_number

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in "double float int32 int64 uint32 uint64 bool string bytes".split()
}
_WELL_KNOWN: Final = {file.DESCRIPTOR.name: file.DESCRIPTOR for file in (any_pb2, wrappers_pb2)}
_NAME: Final = re.compile(r"[A-Za-z_.][\w.]*", re.ASCII)
_TOKEN: Final = re.compile(r'\s+|//[^\n]*|(?P<token>"[^"\n]*"|[A-Za-z_.][\w.]*|\d+|[{}()<>=;,])', re.ASCII)


def message_classes(sources: Mapping[str, str]) -> dict[str, Any]:
    """Build the messages of proto3 files in a descriptor pool of their own.

    Args:
        sources: the files' texts by the names by which they import each other, those imported first. Of protobuf's own
            files ``google/protobuf/any.proto`` and ``google/protobuf/wrappers.proto`` can be imported.

    Returns:
        Message classes by full name (``tensorflow.TensorProto``), nested ones and enums left out.

    Raises:
        ValueError: a text is not understood.
        TypeError: protobuf refuses what it says (a type that is not there, a number twice).
    """
    pool = descriptor_pool.DescriptorPool()
    for descriptor in _WELL_KNOWN.values():
        pool.AddSerializedFile(descriptor.serialized_pb)
    files = [parse_proto(name, text) for name, text in sources.items()]
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    names = [f"{file.package}.{message.name}" for file in files for message in file.message_type]
    return {name: _message_class(pool, pool.FindMessageTypeByName(name)) for name in names}


def parse_proto(name: str, text: str) -> Any:
    """Parse one proto3 file to its FileDescriptorProto.

    Raises:
        ValueError: the text is not understood.
    """
    return _Parser(name, text).file()


def _message_class(pool: Any, descriptor: Any) -> Any:
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


class _Parser:
    """Recursive descent: a method for each production, each of which leaves ``at`` behind what it read."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.tokens = self._tokens(text)
        self.at = 0

    def _tokens(self, text: str) -> list[str]:
        tokens, position = [], 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"{self.name}: not understood: {text[position : position + 20]!r}")
            position = match.end()
            if match["token"]:
                tokens.append(match["token"])
        return tokens

    def next(self, expected: str | None = None) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else "the end of the file"
        if (expected is not None and token != expected) or self.at >= len(self.tokens):
            before = " ".join(self.tokens[max(0, self.at - 6) : self.at])
            raise ValueError(f"{self.name}: expected {expected or 'more'!r} after {before!r}, found {token!r}")
        self.at += 1
        return token

    def skip(self, token: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at] == token
        self.at += found
        return found

    def identifier(self) -> str:
        token = self.next()
        if not _NAME.fullmatch(token):
            raise ValueError(f"{self.name}: expected a name, found {token!r}")
        return token

    def number(self) -> int:
        token = self.next()
        if not is_number(token):
            raise ValueError(f"{self.name}: expected a number, found {token!r}")
        return int(token)

    def file(self) -> Any:
        file = descriptor_pb2.FileDescriptorProto(name=self.name, syntax="proto3")
        while self.at < len(self.tokens):
            keyword = self.next()
            if keyword == "syntax":
                self.next("=")
                self.next('"proto3"')
                self.next(";")
            elif keyword == "package":
                file.package = self.identifier()
                self.next(";")
            elif keyword == "import":
                file.dependency.append(self.next().strip('"'))
                self.next(";")
            elif keyword == "option":
                self.option(file.options)
            elif keyword == "message":
                self.message(file.message_type.add())
            elif keyword == "enum":
                self.enum(file.enum_type.add())
            elif keyword == "service":
                self.service(file.service.add())
            else:
                raise ValueError(f"{self.name}: not understood: {keyword!r}")
        return file

    def option(self, options: Any) -> None:
        name = self.identifier()
        self.next("=")
        value = self.next()
        try:
            setattr(options, name, value.strip('"') if value.startswith('"') else value == "true")
        except (AttributeError, TypeError) as error:
            raise ValueError(f"{self.name}: no option {name} = {value}") from error
        self.next(";")

    def message(self, message: Any) -> None:
        message.name = self.identifier()
        self.next("{")
        while not self.skip("}"):
            if self.skip("message"):
                self.message(message.nested_type.add())
            elif self.skip("enum"):
                self.enum(message.enum_type.add())
            elif self.skip("oneof"):
                self.oneof(message)
            else:
                self.field(message)

    def oneof(self, message: Any) -> None:
        message.oneof_decl.add(name=self.identifier())
        index = len(message.oneof_decl) - 1
        self.next("{")
        while not self.skip("}"):
            self.field(message).oneof_index = index

    def field(self, message: Any) -> Any:
        field = message.field.add(label=_Field.LABEL_REPEATED if self.skip("repeated") else _Field.LABEL_OPTIONAL)
        kind = self.identifier()
        entry = self.map_entry(message) if kind == "map" else None
        field.name = self.identifier()
        if entry is None:
            _set_type(field, kind)
        else:
            entry.name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
            field.type, field.type_name, field.label = _Field.TYPE_MESSAGE, entry.name, _Field.LABEL_REPEATED
        self.next("=")
        field.number = self.number()
        self.next(";")
        return field

    def map_entry(self, message: Any) -> Any:
        entry = message.nested_type.add()
        entry.options.map_entry = True
        self.next("<")
        _set_type(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), self.identifier())
        self.next(",")
        _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), self.identifier())
        self.next(">")
        return entry

    def enum(self, enum: Any) -> None:
        enum.name = self.identifier()
        self.next("{")
        while not self.skip("}"):
            if self.skip("option"):
                self.option(enum.options)
                continue
            name = self.identifier()
            self.next("=")
            enum.value.add(name=name, number=self.number())
            self.next(";")

    def service(self, service: Any) -> None:
        service.name = self.identifier()
        self.next("{")
        while not self.skip("}"):
            self.next("rpc")
            method = service.method.add(name=self.identifier())
            self.next("(")
            method.input_type = self.identifier()
            self.next(")")
            self.next("returns")
            self.next("(")
            method.output_type = self.identifier()
            self.next(")")
            self.next(";")


def _set_type(field: Any, kind: str) -> None:
    """A scalar type, or a name that the pool resolves from the inside out, as protoc does."""
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind
