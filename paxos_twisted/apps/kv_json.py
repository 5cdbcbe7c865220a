"""The key-value store's operations and answers as JSON: in histories, in reports, for programs.

A value that is UTF-8 text is a JSON string; other bytes are {"base64": "…"}; no value is null.
"""

from base64 import b64decode, b64encode
from typing import Any

import msgspec

from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Denied,
    Different,
    Done,
    Get,
    KvOp,
    KvResult,
    List,
    Page,
    Put,
    Value,
)
from paxos_twisted.limits import KV_PAGE_KEYS_MAX

Json = dict[str, object]


class _Base64(msgspec.Struct, forbid_unknown_fields=True):
    base64: str


_JsonValue = str | _Base64 | None


class _OpLine(msgspec.Struct):
    kind: str
    key: str = ""
    value: _JsonValue = None
    expected: _JsonValue = None
    prefix: str = ""
    after: str = ""
    limit: int = KV_PAGE_KEYS_MAX


class _ResultLine(msgspec.Struct):
    error: str | None = None
    value: _JsonValue | msgspec.UnsetType = msgspec.UNSET
    done: bool | None = None
    was_there: bool | None = None
    pairs: tuple[tuple[str, _JsonValue], ...] | None = None
    more: bool = False


_read_op_line = msgspec.json.Decoder(_OpLine).decode
_read_result_line = msgspec.json.Decoder(_ResultLine).decode


def value_json(value: bytes | None) -> object:
    """A value as JSON."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def op_json(op: KvOp) -> Json:
    """The inverse of `read_op`."""
    match op:
        case Get(key):
            return {"kind": "get", "key": key}
        case Put(key, value):
            return {"kind": "put", "key": key, "value": value_json(value)}
        case Delete(key):
            return {"kind": "delete", "key": key}
        case CompareAndSet(key, expected, value):
            return {"kind": "cas", "key": key, "expected": value_json(expected), "value": value_json(value)}
        case List(prefix, after, limit):
            return {"kind": "list", "prefix": prefix, "after": after, "limit": limit}


def result_json(result: KvResult) -> Json:
    """The inverse of `read_result`."""
    match result:
        case Done():
            return {"done": True}
        case Value(value):
            return {"value": value_json(value)}
        case Deleted(was_there):
            return {"was_there": was_there}
        case Different(was_there):
            return {"done": False, "was_there": was_there}
        case Page(pairs, more):
            return {"pairs": [[key, value_json(value)] for key, value in pairs], "more": more}
        case Denied(error):
            return {"error": error}


def read_op(raw: bytes) -> KvOp:
    """Decode an operation.

    Raises:
        msgspec.DecodeError: it is none.
    """
    line = _read_op_line(raw)
    match line.kind:
        case "get":
            return Get(line.key)
        case "put":
            return Put(line.key, _needed(line.value))
        case "delete":
            return Delete(line.key)
        case "cas":
            return CompareAndSet(line.key, _bytes(line.expected), _needed(line.value))
        case "list":
            return msgspec.convert((4, line.prefix, line.after, line.limit), List)
    raise msgspec.ValidationError(f"unknown kind of operation {line.kind!r}; there are get, put, delete, cas, list")


def read_result(raw: bytes) -> KvResult:
    """Decode an answer.

    Raises:
        msgspec.DecodeError: it is none.
    """
    line = _read_result_line(raw)
    if line.error is not None:
        return Denied(line.error)
    if line.pairs is not None:
        return Page(tuple((key, _needed(value)) for key, value in line.pairs), line.more)
    if not isinstance(line.value, msgspec.UnsetType):
        return Value(_bytes(line.value))
    if line.was_there is not None:
        return Deleted(line.was_there) if line.done is None else Different(line.was_there)
    if line.done:
        return Done()
    raise msgspec.ValidationError("a result needs one of error, value, done, was_there, pairs")


def show(value: bytes) -> str:
    """A value for people, in one line: text where it is text, else escapes like those of Python."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)[2:-1]
    return text if text.isprintable() else repr(text)[1:-1]


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    try:
        return b64decode(value.base64, validate=True)
    except ValueError as error:
        raise msgspec.ValidationError(f"a value is not base64: {error}") from None


def _needed(value: Any) -> bytes:
    found = _bytes(value)
    if found is None:
        raise msgspec.ValidationError("an operation or a pair needs a value")
    return found
