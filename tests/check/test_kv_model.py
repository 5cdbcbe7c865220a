"""The checker's view of the key-value store: true histories pass, false ones do not, lists are one operation."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from paxos_twisted.check.command import check_recorded
from paxos_twisted.check.exactly_once import check_answers
from paxos_twisted.check.explain import explain
from paxos_twisted.check.history import History
from paxos_twisted.check.kv import KvModel
from paxos_twisted.check.model import Prepared
from paxos_twisted.check.verdict import Outcome

Row = tuple[KvOp, KvResult | None, int, int]
"""Operation, answer (None: unknown), call, end."""

A, B = b"A", b"B"


def recorded(rows: list[Row]) -> History[KvOp, KvResult]:
    made: History[KvOp, KvResult] = History()
    marks = sorted([(row[2], 0, at) for at, row in enumerate(rows)] + [(row[3], 1, at) for at, row in enumerate(rows)])
    for time, is_end, at in marks:
        op, result, _, _ = rows[at]
        if not is_end:
            made.invoke(at, at, 1, op, time)
        elif result is None:
            made.unknown(at, at, 1, "timeout", time)
        else:
            made.ok(at, at, 1, result, time)
    return made


def judged(rows: list[Row], *, fresh: bool = True) -> Outcome:
    return check_recorded(KvModel(fresh=fresh), recorded(rows)).outcome


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(Put("k", A), Done(), 0, 1), (Get("k"), Value(A), 2, 3)], id="a read sees the write before it"),
        pytest.param([(Put("k", A), Done(), 0, 5), (Get("k"), Value(None), 1, 2)], id="or not yet the one under way"),
        pytest.param([(Put("k", A), None, 0, 1), (Get("k"), Value(A), 5, 6)], id="an unknown write may come late"),
        pytest.param([(Put("k", A), None, 0, 1), (Get("k"), Value(None), 5, 6)], id="or never"),
        pytest.param(
            [(CompareAndSet("k", None, A), Done(), 0, 3), (CompareAndSet("k", None, B), Different(True), 1, 2)],
            id="one of two creates wins",
        ),
        pytest.param(
            [(Delete("k"), Deleted(False), 0, 1), (Get(""), Denied("an empty key"), 0, 1)], id="nothing there"
        ),
        pytest.param(
            [
                (Put("a", A), Done(), 0, 9),
                (Put("b", A), Done(), 0, 9),
                (List(), Page((("b", A),), False), 1, 2),
                (List(), Page((("a", A), ("b", A)), False), 3, 4),
            ],
            id="two writes under way appear one after the other",
        ),
        pytest.param([(List("x"), Page((), False), 0, 1)], id="a list of nothing"),
        pytest.param([(List("x"), None, 0, 1), (Put("x", A), Done(), 0, 1)], id="a list without an answer"),
    ],
)
def test_true_histories(rows: list[Row]) -> None:
    assert judged(rows) is Outcome.OK
    assert judged(rows, fresh=False) is Outcome.OK


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(Put("k", A), Done(), 0, 1), (Get("k"), Value(None), 2, 3)], id="a lost write"),
        pytest.param([(Put("k", A), Done(), 0, 1), (Delete("k"), Deleted(False), 2, 3)], id="a delete of the present"),
        pytest.param(
            [(CompareAndSet("k", None, A), Done(), 0, 3), (CompareAndSet("k", None, B), Done(), 1, 2)],
            id="both creates win",
        ),
        pytest.param(
            [
                (Put("a", A), Done(), 0, 9),
                (Put("b", A), Done(), 0, 9),
                (List(), Page((("b", A),), False), 1, 4),
                (List(), Page((("a", A),), False), 1, 4),
            ],
            id="two lists see two writes in two orders",
        ),
        pytest.param([(Put("b", A), Done(), 0, 1), (List(), Page((), False), 2, 3)], id="a list misses a key"),
        pytest.param([(List(), Page((("a", A),), False), 0, 1)], id="a list shows what nobody wrote"),
        pytest.param(
            [
                (Put("a", A), Done(), 0, 1),
                (Put("b", A), Done(), 0, 1),
                (List("", "", 1), Page((("b", A),), False), 2, 3),
            ],
            id="a page misses the first key",
        ),
    ],
)
def test_false_histories(rows: list[Row]) -> None:
    assert judged(rows) is Outcome.VIOLATION


def test_the_keys_behind_a_page_are_none_of_its_business() -> None:
    rows: list[Row] = [
        (Put("a", A), Done(), 0, 1),
        (Put("b", A), Done(), 0, 1),
        (List("", "", 1), Page((("a", A),), True), 2, 3),
        (List("", "a"), Page((("b", A),), False), 4, 5),
    ]
    assert judged(rows) is Outcome.OK


def test_a_store_that_was_in_use_before_is_believed_once() -> None:
    rows: list[Row] = [(Get("k"), Value(A), 0, 1), (List(), Page((("j", B), ("k", A)), False), 2, 3)]
    assert judged(rows) is Outcome.VIOLATION
    assert judged(rows, fresh=False) is Outcome.OK
    assert judged([*rows, (Get("j"), Value(A), 4, 5)], fresh=False) is Outcome.VIOLATION


@pytest.mark.parametrize(
    ("op", "result", "wrong"),
    [
        (Put("a", A), Value(A), "that is the answer to another request"),
        (Put("a", A), Denied("because"), "a store does not deny that"),
        (Get(""), Value(A), "a store denies that: an empty key"),
        (List(), Page((("b", A), ("a", A)), False), "its keys are not in order"),
        (List("x"), Page((("a", A),), False), "its keys are not in order, or not those asked for"),
        (List("", "", 1), Page((("a", A), ("b", A)), False), "no page has that length"),
        (CompareAndSet("a", None, A), Different(False), "that was expected"),
    ],
)
def test_answers_that_fit_no_state(op: KvOp, result: KvResult, wrong: str) -> None:
    (finding,) = check_answers(recorded([(op, result, 0, 1)]).operations, KvModel())
    assert wrong in finding
    assert judged([(op, result, 0, 1)]) is Outcome.VIOLATION
    assert judged([(op, result, 0, 1)], fresh=False) is Outcome.VIOLATION


def test_the_explanation_reads_like_the_client() -> None:
    made = recorded([(Put("k", A), Done(), 0, 1), (Delete("k"), Deleted(True), 2, 3), (Get("k"), Value(A), 4, 5)])
    model = KvModel()
    text = "\n".join(explain(check_recorded(model, made), made, model))
    assert "get k -> A [request 1" in text
    assert "put k A -> done" in text
    assert "k does not exist" in text


def drawn(rng: Random, clients: int, steps: int) -> History[KvOp, KvResult]:
    """A true history: each operation takes effect at a random moment between its call and its end."""
    store = KeyValueStore()
    made: History[KvOp, KvResult] = History()
    keys = ["a", "b", "c/1", "c/2"]
    open_ops: dict[int, tuple[int, KvOp, KvResult | None]] = {}
    seqs = dict.fromkeys(range(clients), 0)
    for time in range(steps):
        client = rng.randrange(clients)
        if client not in open_ops:
            key, value = rng.choice(keys), rng.choice([A, B])
            op: KvOp = rng.choice(
                [Get(key), Put(key, value), Delete(key), CompareAndSet(key, rng.choice([None, A]), value), List()]
            )
            if rng.random() < 0.1:
                op = List(rng.choice(["c", ""]), rng.choice(["", "b"]), rng.randrange(1, 4))
            seqs[client] += 1
            made.invoke(client, client, seqs[client], op, time)
            open_ops[client] = seqs[client], op, None
            continue
        seq, op, result = open_ops[client]
        if result is None:
            open_ops[client] = seq, op, store.apply(op, client)
        elif rng.random() < 0.1 and not isinstance(op, Get | List):
            made.unknown(client, client, seq, "timeout", time)
            del open_ops[client]
        else:
            made.ok(client, client, seq, result, time)
            del open_ops[client]
    return made


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_whatever_a_store_answers_is_linearizable_and_lies_are_found(seed: int) -> None:
    rng = Random(seed)
    made = drawn(rng, 4, 80)
    assert check_recorded(KvModel(), made).outcome is Outcome.OK
    pages = [one for one in made.operations if isinstance(one.result, Page) and isinstance(one.op, List)]
    if pages:
        lie = rng.choice(pages)
        lie.result = Page((("b", b"nobody wrote that"),), False)
        assert check_recorded(KvModel(), made).outcome is Outcome.VIOLATION


def test_the_model_asks_for_the_history_first() -> None:
    assert isinstance(KvModel(), Prepared)
