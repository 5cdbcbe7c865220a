"""The search with models other than the bank: a register whose writes say nothing, and a map of such registers."""

import random
from collections.abc import Hashable, Sequence
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.check.history import History
from paxos_twisted.check.linearizability import check_linearizable
from paxos_twisted.check.model import State
from paxos_twisted.check.verdict import Outcome

RegisterOp = tuple[str, str, int]
"""("read", key, 0), ("write", key, value), ("swap", "a", 0): exchanges a and b."""

RegisterHistory = History[RegisterOp, int]


class Registers:
    """Registers a and b, 0 at first. Writes answer -1, reads the value, the exchange what a held."""

    name = "registers"

    def keys(self, op: RegisterOp, result: int | None) -> tuple[Hashable, ...]:
        return ("a", "b") if op[0] == "swap" else (op[1],)

    def initial(self, key: Hashable) -> Hashable:
        return 0

    def step(self, state: State, op: RegisterOp, result: int | None) -> State | None:
        if op[0] == "read":
            return state if result in (None, state[0]) else None
        if op[0] == "write":
            return (op[2],)
        return (state[1], state[0]) if result in (None, state[0]) else None

    def is_read(self, op: RegisterOp, result: int | None) -> bool:
        return op[0] == "read"

    def parts(self, op: RegisterOp, result: int | None) -> Sequence[tuple[RegisterOp, int | None]] | None:
        return None if op[0] == "swap" else ((op, result),)


def judge(made: RegisterHistory) -> bool:
    """Try every order of every choice."""
    operations = made.operations
    place = {event: at for at, event in enumerate(made.events())}
    must = [i for i, operation in enumerate(operations) if operation.outcome == "ok"]
    may = [i for i, operation in enumerate(operations) if operation.outcome in ("unknown", "open")]
    for mask in range(1 << len(may)):
        chosen = must + [i for bit, i in enumerate(may) if mask >> bit & 1]
        for order in permutations(chosen):
            in_time = all(
                not (~later in place and place[~later] < place[earlier])
                for at, earlier in enumerate(order)
                for later in order[at + 1 :]
            )
            if in_time and _is_true([(operations[i].op, operations[i].result) for i in order]):
                return True
    return False


def _is_true(steps: list[tuple[RegisterOp, int | None]]) -> bool:
    model = Registers()
    values: dict[Hashable, Hashable] = {"a": 0, "b": 0}
    for op, result in steps:
        keys = model.keys(op, result)
        after = model.step(tuple(values[key] for key in keys), op, result)
        if after is None:
            return False
        values.update(zip(keys, after, strict=True))
    return True


def draw_history(rng: random.Random) -> RegisterHistory:
    """Random calls, answers and results: about half of these histories are linearizable."""
    made: RegisterHistory = History()
    running: list[tuple[int, RegisterOp]] = []
    time = started = 0
    while started < 5 or running:
        time += rng.randrange(2)
        if started < 5 and rng.random() < 0.5:
            started += 1
            kind = rng.choice(["read", "read", "write", "swap"])
            op = (kind, "a" if kind == "swap" else rng.choice("ab"), rng.randrange(3))
            running.append((started, op))
            made.invoke(started, started, 1, op, time)
        elif running:
            client, op = running.pop(rng.randrange(len(running)))
            if rng.random() < 0.2:
                made.unknown(client, client, 1, "timeout", time)
            else:
                made.ok(client, client, 1, -1 if op[0] == "write" else rng.randrange(3), time)
    return made


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_registers_agree_with_brute_force(seed: int) -> None:
    made = draw_history(random.Random(seed))
    assert check_linearizable(Registers(), made).outcome is (Outcome.OK if judge(made) else Outcome.VIOLATION)


def test_a_write_that_changes_nothing_now_may_be_needed_later() -> None:
    """Reads may be placed as soon as they fit, writes may not, also when they write what is there already."""
    made: RegisterHistory = History()
    made.invoke(1, 1, 1, ("write", "a", 0), 0)
    made.invoke(2, 2, 1, ("write", "a", 1), 1)
    made.ok(2, 2, 1, -1, 2)
    made.invoke(3, 3, 1, ("read", "a", 0), 3)
    made.ok(3, 3, 1, 0, 4)
    made.ok(1, 1, 1, -1, 5)
    assert check_linearizable(Registers(), made).outcome is Outcome.OK


def test_a_write_that_overlaps_everything_can_be_seen_in_the_middle() -> None:
    made: RegisterHistory = History()
    made.invoke(1, 1, 1, ("write", "a", 1), 0)
    for seq, value in enumerate([0, 1, 1], 1):
        made.invoke(2, 2, seq, ("read", "a", 0), 10 * seq)
        made.ok(2, 2, seq, value, 10 * seq + 1)
    made.ok(1, 1, 1, -1, 99)
    assert check_linearizable(Registers(), made).outcome is Outcome.OK


def test_registers_that_can_be_judged_alone_are_decided_by_their_parts() -> None:
    """30 unseen writes of different values: only trying all choices would do, unless one key is judged at a time."""
    made: RegisterHistory = History()
    for client in range(30):
        made.invoke(client, client, 1, ("write", "a", client + 1), 0)
    made.invoke(99, 99, 1, ("read", "a", 0), 1)
    made.ok(99, 99, 1, 31, 2)
    verdict = check_linearizable(Registers(), made)
    assert verdict.outcome is Outcome.VIOLATION
