"""RunMap and Ranges against slow, obvious models that keep every slot apart."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.core.engine import DecidedRun
from paxos_twisted.core.runs import Ranges, RunMap

SLOTS = 24

spans = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, 8))
map_steps = st.lists(st.tuples(st.sampled_from(["put", "remove", "drop", "within", "pop"]), spans), max_size=40)


@given(map_steps)
def test_a_run_map_holds_what_a_dictionary_of_slots_holds(steps: list[tuple[str, tuple[int, int]]]) -> None:
    runs: RunMap[DecidedRun] = RunMap()
    model: dict[int, int] = {}
    for number, (step, (slot, count)) in enumerate(steps):
        body = bytes((number + i) % 128 for i in range(count))
        if step == "put":
            runs.put(DecidedRun(slot, count, body))
            model.update({slot + i: body[i] for i in range(count)})
        elif step == "remove":
            runs.remove(slot, slot + count)
            model = {s: v for s, v in model.items() if not slot <= s < slot + count}
        elif step == "drop":
            runs.drop_below(slot)
            model = {s: v for s, v in model.items() if s >= slot}
        elif step == "within":
            inside = runs.within(slot, slot + count)
            told = {run.slot + i: run.body[i] for run in inside for i in range(run.count)}
            assert told == {s: v for s, v in model.items() if slot <= s < slot + count}
        else:
            run = runs.at(slot)
            assert (run is not None) == (slot in model)
            if run is not None:
                runs.pop(run)
                for covered in range(run.slot, run.slot + run.count):
                    del model[covered]
        assert {run.slot + i: run.body[i] for run in runs for i in range(run.count)} == model
        assert [run.slot for run in runs] == sorted(run.slot for run in runs)
        assert runs.stop == max(model, default=-1) + 1
        assert runs.first == min(model, default=0)
        assert runs.covers(slot, slot + count) == all(s in model for s in range(slot, slot + count))
        holes = [s for a, b in runs.holes(slot, slot + count) for s in range(a, b)]
        assert holes == [s for s in range(slot, slot + count) if s not in model]


@given(st.lists(st.tuples(st.booleans(), spans), max_size=40))
def test_ranges_hold_what_a_set_of_slots_holds(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges = Ranges()
    model: set[int] = set()
    for add, (slot, count) in steps:
        covered = set(range(slot, slot + count))
        if add:
            ranges.add(slot, slot + count)
            model |= covered
        else:
            ranges.remove(slot, slot + count)
            model -= covered
        parts = list(ranges)
        assert [s for a, b in parts for s in range(a, b)] == sorted(model)
        assert all(before[1] < after[0] for before, after in pairwise(parts))
        assert ranges.last == max(model, default=-1)
        assert bool(ranges) == bool(model)
        assert ranges.overlaps(slot, slot + count) == bool(covered & model)
        assert (slot in ranges) == (slot in model)
        missing = [s for a, b in ranges.missing(slot, slot + count) for s in range(a, b)]
        assert missing == sorted(covered - model)
