"""The applications as the soak sees them: every one can be drawn, read and judged, and a lie is found in its window."""

from random import Random
from typing import Any

import msgspec
import pytest

from paxos_twisted.apps.kv import Get, Put, Value
from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.check.command import MODELS
from paxos_twisted.check.history import History, read_history
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.nemesis import LEADERLESS_WEIGHTS, WEIGHTS
from paxos_twisted.cluster.soak_screens import MEANINGS
from paxos_twisted.cluster.soaked import SOAKED, Judge, Soaked


class Played:
    """Clients of one application that are served one after the other."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.application = APPLICATIONS[name]()
        self.soaked: Soaked = SOAKED[name](6)
        self.rng = Random(seed)
        self.now = 1_700_000_000_000
        self.seq = 0

    def execute(self, history: History[Any, Any], op: Any) -> Any:
        self.seq += 1
        self.now += 7
        stamped = self.application.stamp(op, self.now) if self.application.stamps else op
        operation = history.invoke(0, 9, self.seq, op, self.now)
        history.ok(0, 9, self.seq, self.application.apply(stamped, 9), self.now + 1)
        return operation

    def window(self, requests: int = 80) -> tuple[History[Any, Any], list[Any]]:
        history: History[Any, Any] = History()
        for _ in range(requests):
            self.execute(history, self.soaked.draw(self.rng, self.rng.randrange(3)))
        return history, [self.execute(history, op) for op in self.soaked.readings()]


def test_every_application_can_be_soaked_and_checked() -> None:
    assert SOAKED.keys() == APPLICATIONS.keys() == MODELS.keys()


@pytest.mark.parametrize("name", SOAKED)
def test_what_happened_is_right_window_after_window(name: str) -> None:
    played = Played(name)
    judge: Judge = played.soaked.judge()
    total = 0
    for _ in range(4):
        history, readings = played.window()
        verdict = judge.check(history, readings)
        assert verdict.outcome is Outcome.OK, verdict.text
        total += len(history.operations)
    assert (judge.checked, judge.undecided) == (total, 0)


@pytest.mark.parametrize("name", SOAKED)
def test_a_state_that_changes_between_two_windows_is_found(name: str) -> None:
    played = Played(name)
    judge = played.soaked.judge()
    assert judge.check(*played.window()).outcome is Outcome.OK
    for table in played.application.tables():  # everything is forgotten
        table.replace([{} for _ in table.shards])
    assert judge.check(*played.window()).outcome is Outcome.VIOLATION


def test_a_lost_write_is_explained_and_its_history_is_kept(tmp_path: Any) -> None:
    played = Played("kv")
    judge = played.soaked.judge()
    assert judge.check(*played.window(20)).outcome is Outcome.OK
    history: History[Any, Any] = History()
    played.execute(history, Put("k0", b"new"))
    played.execute(history, Get("k0"))
    history.operations[-1].result = Value(b"old")
    verdict = judge.check(history, [])
    assert verdict.outcome is Outcome.VIOLATION
    assert any("get k0 -> old" in line for line in verdict.text)
    judge.keep_evidence(tmp_path, history)
    kept = read_history([tmp_path / "history.jsonl"], MODELS["kv"](False))
    assert [one.op for one in kept.operations[-2:]] == [Put("k0", b"new"), Get("k0")]
    assert len(kept.operations) == 3, "behind what was read before"


@pytest.mark.parametrize("name", SOAKED)
def test_operations_can_be_sent(name: str) -> None:
    played = Played(name)
    op_type = played.application.op_type
    for op in [*(played.soaked.draw(played.rng, 1) for _ in range(50)), *played.soaked.readings()]:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(op), type=op_type) == op


def test_every_fault_has_its_meaning() -> None:
    assert {*WEIGHTS, *LEADERLESS_WEIGHTS} == MEANINGS.keys()
