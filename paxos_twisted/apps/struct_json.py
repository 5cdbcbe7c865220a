"""Tagged structs as JSON objects, for histories and reports: the struct's name is the `kind`, bytes are hexadecimal.

Post("hall", b"…", "ann", "hi")  <->  {"kind": "post", "room": "hall", "id": "0f…", "author": "ann", "body": "hi"}
"""

from collections.abc import Container
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

Value = TypeVar("Value", bound=msgspec.Struct)

Json = dict[str, object]


def to_json(value: msgspec.Struct, hidden: Container[str] = ()) -> Json:
    """A struct as a JSON object, without the fields `hidden`."""
    return {"kind": kind_of(type(value))} | _fields(value, hidden)


def kind_of(struct: type) -> str:
    """The word for a struct: AuctionStatus is "auction-status"."""
    name = struct.__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() and i else letter.lower() for i, letter in enumerate(name))


class StructReader(Generic[Value]):
    """Reads what `to_json` has written."""

    def __init__(self, *structs: type[Value]) -> None:
        self._structs = {kind_of(struct): struct for struct in structs}

    def read(self, raw: bytes) -> Value:
        """Decode a JSON object.

        Raises:
            msgspec.DecodeError: it is none of the structs.
        """
        line = msgspec.json.decode(raw, type=dict[str, object])
        kind = line.pop("kind", None)
        struct = self._structs.get(kind) if isinstance(kind, str) else None
        if struct is None:
            raise msgspec.ValidationError(f"unknown kind {kind!r}; there are {', '.join(self._structs)}")
        value: Value = _read(line, struct)
        return value


def _fields(value: msgspec.Struct, hidden: Container[str]) -> Json:
    return {name: _plain(getattr(value, name), hidden) for name in value.__struct_fields__ if name not in hidden}


def _plain(value: Any, hidden: Container[str]) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        return _fields(value, hidden)
    if isinstance(value, tuple):
        return [_plain(item, hidden) for item in value]
    return value


def _read(line: Json, struct: type[Any]) -> Any:
    hints = get_type_hints(struct)
    values = {}
    for field in msgspec.structs.fields(struct):
        if field.name in line:
            values[field.name] = _typed(line.pop(field.name), hints[field.name], field.type)
        elif field.required:
            raise msgspec.ValidationError(f"{kind_of(struct)} needs {field.name!r}")
    if line:
        raise msgspec.ValidationError(f"{kind_of(struct)} has no {', '.join(map(repr, line))}")
    return struct(**values)


def _typed(value: object, hint: Any, full: Any) -> Any:
    if hint is bytes:
        try:
            value = bytes.fromhex(value) if isinstance(value, str) else value
        except ValueError as error:
            raise msgspec.ValidationError(f"{value!r} is not hexadecimal: {error}") from None
    elif get_origin(hint) is tuple and isinstance(value, list):
        item = get_args(hint)[0]
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            if not all(isinstance(line, dict) for line in value):
                raise msgspec.ValidationError(f"each of {value!r} must be an object")
            return tuple(_read(dict(line), item) for line in value)
    return msgspec.convert(value, full)
