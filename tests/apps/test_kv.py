"""The key-value store against a dictionary, its limits, its codec, and its lists after snapshots."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps.application import Footprint
from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Denied,
    Different,
    Done,
    Get,
    KeyValueStore,
    KvOp,
    KvResult,
    List,
    Page,
    Put,
    Value,
)
from paxos_twisted.apps.kv_json import op_json, read_op, read_result, result_json, show
from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState, pieces_of
from paxos_twisted.limits import KV_KEY_BYTES_MAX, KV_PAGE_BYTES_MAX, KV_PAGE_KEYS_MAX, KV_VALUE_BYTES_MAX
from paxos_twisted.types import ClientId

KEYS = st.text(st.sampled_from("ab/\u00e9"), max_size=4)
VALUES = st.binary(max_size=3)
OPS = st.one_of(
    st.builds(Get, KEYS),
    st.builds(Put, KEYS, VALUES),
    st.builds(Delete, KEYS),
    st.builds(CompareAndSet, KEYS, st.none() | VALUES, VALUES),
    st.builds(List, KEYS, KEYS, st.integers(1, 5)),
)


def expected(held: dict[str, bytes], op: KvOp) -> KvResult:
    """The store by the plainest code."""
    if isinstance(op, List):
        keys = [key for key in sorted(held) if key.startswith(op.prefix) and key > op.after]
        shown = keys[: op.limit]
        return Page(tuple((key, held[key]) for key in shown), len(keys) > len(shown))
    if not op.key:
        return Denied("an empty key")
    match op:
        case Get(key):
            return Value(held.get(key))
        case Put(key, value):
            held[key] = value
            return Done()
        case Delete(key):
            return Deleted(held.pop(key, None) is not None)
        case CompareAndSet(key, wanted, value):
            if held.get(key) != wanted:
                return Different(key in held)
            held[key] = value
            return Done()


def run(store: KeyValueStore, *ops: KvOp) -> list[KvResult]:
    return [store.apply(op, 1) for op in ops]


@settings(max_examples=300, deadline=None)
@given(st.lists(OPS, max_size=60))
def test_it_behaves_like_a_dictionary(ops: list[KvOp]) -> None:
    store = KeyValueStore()
    held: dict[str, bytes] = {}
    for op in ops:
        assert store.apply(op, 1) == expected(held, op)
    assert dict(store.entries.items()) == held


@settings(max_examples=100, deadline=None)
@given(st.lists(OPS, max_size=30), st.lists(OPS, max_size=30))
def test_a_replica_from_a_snapshot_goes_on_in_the_same_way(before: list[KvOp], after: list[KvOp]) -> None:
    """Lists, too: the order of the keys is no part of the snapshot, and the other replica had one already."""

    def commands(ops: Sequence[KvOp], first: int) -> list[Command[Any]]:
        return [Command(ClientId(1), -1, first + at, 1, op) for at, op in enumerate(ops)]

    one, other = (ReplicatedState(KeyValueStore(), 10**6) for _ in range(2))
    other.apply(0, commands([Put("a", b"old"), List()], 1))
    one.apply(0, commands(before, 1))
    if one.applied <= other.applied:
        return
    picture = one.photograph()
    pieces = []
    while (piece := picture.next_piece()) is not None:
        pieces.append(piece)
    other.install(one.applied, pieces, picture.digest())
    more = commands(after, len(before) + 1)
    assert one.apply(one.applied + 1, more) == other.apply(other.applied + 1, more)
    assert list(pieces_of(one)) == list(pieces_of(other))


@pytest.mark.parametrize(
    ("op", "error"),
    [
        pytest.param(Get(""), "an empty key", id="no key"),
        pytest.param(Delete("k" * 513), "a key of 513 bytes; 512 are allowed", id="a long key"),
        pytest.param(Get("\u00e9" * 257), "a key of 514 bytes; 512 are allowed", id="bytes count, not characters"),
        pytest.param(Put("a", bytes(65537)), "a value of 65537 bytes; 65536 are allowed", id="a long value"),
        pytest.param(
            CompareAndSet("a", None, bytes(65537)), "a value of 65537 bytes; 65536 are allowed", id="or in cas"
        ),
        pytest.param(List("p" * 600), "a prefix of 600 bytes; 512 are allowed", id="a long prefix"),
        pytest.param(
            List("", "p" * 600), "a key after which to begin of 600 bytes; 512 are allowed", id="a long after"
        ),
    ],
)
def test_what_cannot_be_done_is_said(op: KvOp, error: str) -> None:
    store = KeyValueStore()
    assert run(store, op) == [Denied(error)]
    assert len(store.entries) == 0
    assert store.outcome(Denied(error)) == "rejected"


def test_the_largest_things_are_let_in() -> None:
    store = KeyValueStore()
    key, value = "\u00e9" * (KV_KEY_BYTES_MAX // 2), bytes(KV_VALUE_BYTES_MAX)
    assert run(store, Put(key, value), Get(key), CompareAndSet(key, value, b""), List(key)) == [
        Done(),
        Value(value),
        Done(),
        Page(((key, b""),), False),
    ]


def test_a_page_is_bounded_in_keys_and_in_bytes_and_continues() -> None:
    store = KeyValueStore()
    run(store, *(Put(f"k{number:04}", b"") for number in range(KV_PAGE_KEYS_MAX + 5)))
    (first,) = run(store, List())
    assert isinstance(first, Page)
    assert len(first.pairs) == KV_PAGE_KEYS_MAX
    assert first.more
    (rest,) = run(store, List("", first.pairs[-1][0]))
    assert rest == Page(tuple((f"k{number:04}", b"") for number in range(1000, 1005)), False)
    run(store, *(Put(f"large{number}", bytes(KV_VALUE_BYTES_MAX)) for number in range(3)))
    (large,) = run(store, List("large"))
    assert isinstance(large, Page)
    assert large.more
    assert sum(len(key) + len(value) for key, value in large.pairs) <= KV_PAGE_BYTES_MAX


def test_operations_touch_their_key_and_lists_read_everything() -> None:
    footprint = KeyValueStore().footprint
    assert footprint(Get("a")) == Footprint(("a",), writes=False)
    for op in (Put("a", b""), Delete("a"), CompareAndSet("a", None, b"")):
        assert footprint(op) == Footprint(("a",))
    assert footprint(List("a")) == Footprint((), writes=False, everything=True)


def test_answers_of_reads_are_not_kept_so_a_session_stays_small() -> None:
    store = KeyValueStore()
    assert [
        store.is_reread(op) for op in (Get("a"), List(), Put("a", b""), Delete("a"), CompareAndSet("a", b"", b""))
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["kv"])
def test_it_is_registered(name: str) -> None:
    application = APPLICATIONS[name]()
    assert application.name == name
    assert {
        application.op_name(op) for op in (Get("a"), Put("a", b""), Delete("a"), CompareAndSet("a", None, b""), List())
    } == {*application.op_names}


@given(OPS)
def test_operations_survive_the_wire_and_histories(op: KvOp) -> None:
    encoded = msgspec.msgpack.encode(op)
    assert msgspec.msgpack.decode(encoded, type=KvOp) == op
    assert read_op(msgspec.json.encode(op_json(op))) == op


@given(
    st.one_of(
        st.just(Done()),
        st.builds(Value, st.none() | VALUES),
        st.builds(Deleted, st.booleans()),
        st.builds(Different, st.booleans()),
        st.builds(Page, st.lists(st.tuples(KEYS, VALUES)).map(tuple), st.booleans()),
        st.builds(Denied, st.text()),
    )
)
def test_answers_survive_the_wire_and_histories(result: KvResult) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=KvResult) == result
    assert read_result(msgspec.json.encode(result_json(result))) == result


def test_wire_format_is_fixed() -> None:
    """The bytes of docs/wire.md. Nodes of several versions speak to each other: a change here breaks them."""
    pairs = [
        (Get("a"), "9200a161"),
        (Put("a", b"1"), "9301a161c40131"),
        (Delete("a"), "9202a161"),
        (CompareAndSet("a", None, b"1"), "9403a161c0c40131"),
        (List("u/", "u/7", 10), "9404a2752fa3752f370a"),
        (Done(), "9100"),
        (Value(None), "9201c0"),
        (Deleted(True), "9202c3"),
        (Different(False), "9203c2"),
        (Page((("a", b"1"),), True), "93049192a161c40131c3"),
        (Denied("no"), "9205a26e6f"),
    ]
    assert [(message, msgspec.msgpack.encode(message).hex()) for message, _ in pairs] == pairs


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        ("9209a161", "Invalid value 9"),
        ("9200c0", "Expected `str`"),
        ("9300a161a161", "length"),
        ("9404a0a000", "Expected `int` >= 1"),
        ("9404a0a0cd03e9", "Expected `int` <= 1000"),
    ],
)
def test_other_operations_do_not_decode(encoded: str, reason: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=reason):
        msgspec.msgpack.decode(bytes.fromhex(encoded), type=KvOp)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"kind":"steal"}', "unknown kind of operation 'steal'; there are get, put"),
        (b'{"kind":"put","key":"a"}', "needs a value"),
        (b'{"kind":"put","key":"a","value":{"base64":"?"}}', "not base64"),
        (b'{"kind":"list","limit":0}', "Expected `int` >= 1"),
    ],
)
def test_wrong_operations_in_histories(line: bytes, reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        read_op(line)


def test_a_result_without_anything_is_none() -> None:
    with pytest.raises(msgspec.ValidationError, match="a result needs one of"):
        read_result(b"{}")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"plain", "plain"), (b"", ""), ("\u00e9".encode(), "\u00e9"), (b"a\nb", "a\\nb"), (b"\xff\x00", "\\xff\\x00")],
)
def test_values_for_people(value: bytes, shown: str) -> None:
    assert show(value) == shown
