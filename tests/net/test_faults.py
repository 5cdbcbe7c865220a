"""The message-fault layer: rules in text and JSON, fates, and that the same seed gives the same ones."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_support import ME, THREE, TWO, accept, heartbeat, learn

from paxos_twisted.net.faults import (
    DROPPED,
    NORMAL,
    FaultError,
    FaultLayer,
    Rule,
    check_rules,
    format_rule,
    parse_rule,
    read_request,
)
from paxos_twisted.types import NodeId

KINDS = ("Accept", "Learn", "HeartbeatRequest")
MEMBERS = (ME, TWO, THREE)


def layer(*rules: str, seed: int = 1, now_ms: int = 0) -> FaultLayer:
    return FaultLayer([parse_rule(rule) for rule in rules], random.Random(seed), now_ms)


def arrivals(faults: FaultLayer, count: int, every_ms: int = 1) -> list[tuple[int, int]]:
    """(arrival, number) of messages from 1 to 2, in the order of arrival; equal times in the order of sending."""
    found = []
    for number in range(count):
        now = number * every_ms
        found += [(now + delay, number) for delay in faults.plan(ME, TWO, heartbeat(), now)]
    return sorted(found)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("1->2 loss=0.2", Rule(src=ME, dst=TWO, loss=0.2), id="loss in one direction"),
        pytest.param(
            "1<->2 partition", Rule(src=ME, dst=TWO, both=True, partition=True), id="a cut in both directions"
        ),
        pytest.param("*->* delay=20ms jitter=5ms", Rule(delay_ms=20, jitter_ms=5), id="delay of everything"),
        pytest.param(" 3 -> *   duplicate=1 ", Rule(src=THREE, duplicate=1.0), id="spaces do not matter"),
        pytest.param(
            "3->1 kinds=Learn,Accept pause=2s",
            Rule(src=THREE, dst=ME, kinds=("Learn", "Accept"), pause_ms=2000),
            id="a pause of two kinds, in seconds",
        ),
        pytest.param(
            "*<->2 reorder=0.5 reorder_by=80ms duplicate=0.1 duplicate_by=9ms",
            Rule(dst=TWO, both=True, reorder=0.5, reorder_ms=80, duplicate=0.1, duplicate_ms=9),
            id="reordering and copies with their times",
        ),
    ],
)
def test_a_rule_is_read_and_written(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(format_rule(rule)) == rule


places = st.sampled_from([ME, TWO, THREE, "*"])
probabilities = st.floats(0, 1).map(lambda value: round(value, 3))
times = st.integers(0, 3_600_000)
rules = st.builds(
    Rule,
    src=places, dst=places, both=st.booleans(), kinds=st.lists(st.sampled_from(KINDS), unique=True).map(tuple),
    loss=probabilities, partition=st.booleans(), delay_ms=times, jitter_ms=times, duplicate=probabilities,
    duplicate_ms=times, reorder=probabilities, reorder_ms=times, pause_ms=times,
).filter(lambda rule: not rule.does_nothing())  # fmt: skip


@given(rules)
def test_every_rule_survives_its_text_and_json(rule: Rule) -> None:
    assert parse_rule(format_rule(rule)) == rule
    assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule


@pytest.mark.parametrize(
    ("order", "text"),
    [
        pytest.param({"rules": ["1->2"]}, "is not like", id="a rule without a fault"),
        pytest.param({"rules": ["1=>2 loss=1"]}, "is not like", id="a wrong arrow"),
        pytest.param({"rules": ["1->2 lose=1"]}, "'lose=1' is none of", id="an unknown word"),
        pytest.param({"rules": ["1->2 loss=2"]}, "'loss=2' needs a probability", id="a probability above 1"),
        pytest.param({"rules": ["1->2 loss=nan"]}, "needs a probability", id="a probability that is no number"),
        pytest.param({"rules": ["1->2 delay=20"]}, "'delay=20' needs a time with a unit", id="a time without a unit"),
        pytest.param({"rules": ["1->2 delay=9999s"]}, "Expected `int` <= 3600000", id="a time of hours"),
        pytest.param({"rules": ["1->4 loss=1"]}, "there is no node 4; nodes are 1, 2, 3", id="an unknown node"),
        pytest.param({"rules": ["2->2 loss=1"]}, "sends nothing to itself", id="a node and itself"),
        pytest.param({"rules": ["1->2 loss=0"]}, "does nothing", id="a rule that does nothing"),
        pytest.param({"rules": ["1->2 kinds=Nack loss=1"]}, "no message 'Nack'; messages are", id="an unknown kind"),
        pytest.param({"rules": [{"src": 1, "los": 1}]}, "unknown field `los` - at `$.rules[0]`", id="an unknown field"),
        pytest.param({"rules": [{"loss": 1.5}]}, "at `$.rules[0].loss`", id="a JSON probability above 1"),
        pytest.param({"rule": []}, "unknown field `rule`", id="an unknown key"),
        pytest.param({"seed": -1}, "at `$.seed`", id="a negative seed"),
        pytest.param({"rules": ["*->* loss=0.1"] * 101}, "at `$.rules`", id="too many rules"),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(order: dict[str, Any], text: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_request(order, MEMBERS, KINDS)
    assert text in str(caught.value)


def test_a_request_may_mix_both_forms() -> None:
    order = {"seed": 7, "rules": ["1->2 loss=0.5", {"src": 2, "partition": True}]}
    assert read_request(order, MEMBERS, KINDS) == (7, (Rule(src=ME, dst=TWO, loss=0.5), Rule(src=TWO, partition=True)))


def test_no_rules_take_the_layer_out() -> None:
    assert read_request({}, MEMBERS, KINDS) == (0, ())


@pytest.mark.parametrize(
    ("rule", "src", "dst", "fate"),
    [
        pytest.param("1->2 partition", ME, TWO, DROPPED, id="a one-way cut drops that way"),
        pytest.param("1->2 partition", TWO, ME, NORMAL, id="… and not the other"),
        pytest.param("1<->2 partition", TWO, ME, DROPPED, id="a two-way cut drops both"),
        pytest.param("1<->* partition", THREE, ME, DROPPED, id="a node cut off is cut off from all"),
        pytest.param("1<->* partition", THREE, TWO, NORMAL, id="… the others are not cut off from each other"),
        pytest.param("*->* loss=1", ME, TWO, DROPPED, id="loss 1 drops everything"),
        pytest.param("1->2 delay=20ms", ME, TWO, (20,), id="a delay delays"),
        pytest.param("1->2 delay=20ms", TWO, ME, NORMAL, id="… one way"),
        pytest.param("1->2 duplicate=1", ME, TWO, (0, 0), id="duplication 1 doubles"),
        pytest.param("1->2 reorder=1 reorder_by=80ms", ME, TWO, (80,), id="a reordered message comes later"),
        pytest.param("1->2 pause=300ms", ME, TWO, (300,), id="a pause holds until its end"),
        pytest.param("1->2 kinds=Accept loss=1", ME, TWO, NORMAL, id="a rule for a kind leaves other kinds alone"),
        pytest.param("1->2 kinds=HeartbeatRequest loss=1", ME, TWO, DROPPED, id="… and meets its kind"),
    ],
)
def test_the_fate_of_one_message(rule: str, src: NodeId, dst: NodeId, fate: tuple[int, ...]) -> None:
    assert layer(rule).plan(src, dst, heartbeat(), 0) == fate


def test_a_pause_ends() -> None:
    faults = layer("*->* pause=300ms", now_ms=1000)
    assert faults.plan(ME, TWO, heartbeat(), 1100) == (200,)
    assert faults.plan(ME, TWO, heartbeat(), 1400) == NORMAL


def test_messages_of_a_paused_kind_are_overtaken_by_others_and_not_by_their_own() -> None:
    faults = layer("*->* kinds=Accept pause=300ms")
    assert faults.plan(ME, TWO, accept(), 0) == (300,)
    assert faults.plan(ME, TWO, learn(), 10) == NORMAL
    assert faults.plan(ME, TWO, accept(), 299) == (1,)


def test_rules_add_up() -> None:
    assert layer("1->2 delay=20ms", "*->* delay=5ms").plan(ME, TWO, heartbeat(), 0) == (25,)
    assert layer("1->2 delay=20ms", "*->* loss=1").plan(ME, TWO, heartbeat(), 0) == DROPPED


@given(st.integers(0, 2**32), st.integers(0, 100), st.integers(0, 100))
def test_delay_and_jitter_keep_the_order(seed: int, delay: int, jitter: int) -> None:
    faults = layer(f"*->* delay={delay}ms jitter={jitter}ms loss=0.1", seed=seed)
    found = arrivals(faults, 50)
    assert [number for _, number in found] == sorted(number for _, number in found)
    assert all(delay <= arrival - number for arrival, number in found)


def test_reordered_messages_are_overtaken() -> None:
    found = [number for _, number in arrivals(layer("*->* reorder=0.2 reorder_by=10ms"), 200)]
    assert sorted(found) == list(range(200))
    assert found != sorted(found)


def test_about_as_much_is_lost_and_doubled_as_the_rule_says() -> None:
    lost, doubled = layer("*->* loss=0.2"), layer("*->* duplicate=0.2")
    arrivals(lost, 10_000)
    arrivals(doubled, 10_000)
    assert 1800 < lost.dropped < 2200
    assert 1800 < doubled.duplicated < 2200


@given(st.lists(rules, max_size=5), st.integers(0, 2**64), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50))))
def test_the_same_seed_gives_the_same_fates(some: list[Rule], seed: int, sends: list[tuple[int, int]]) -> None:
    ways = [(src, dst) for src in MEMBERS for dst in MEMBERS if src != dst]

    def run() -> list[tuple[int, ...]]:
        faults, now, fates = FaultLayer(some, random.Random(seed), 0), 0, []
        for way, wait in sends:
            now += wait
            fates.append(faults.plan(*ways[way], accept() if wait % 2 else learn(), now))
        return fates

    first = run()
    assert first == run()
    assert all(delay >= 0 for fate in first for delay in fate)


def test_without_a_matching_rule_nothing_is_drawn() -> None:
    rng = random.Random(5)
    faults = FaultLayer([parse_rule("1->2 loss=0.5")], rng, 0)
    before = rng.getstate()
    assert faults.plan(TWO, THREE, heartbeat(), 0) is NORMAL
    assert rng.getstate() == before


@pytest.mark.parametrize(
    ("rule", "is_cut"),
    [
        pytest.param("2->1 partition", True, id="the receiving side cuts what a partition cuts"),
        pytest.param("1->2 partition", False, id="the other direction is not cut"),
        pytest.param("2->1 loss=1", False, id="loss acts where it is sent, else it would act twice"),
        pytest.param("*->1 kinds=Learn partition", False, id="a partition for another kind does not cut"),
        pytest.param("*->1 kinds=HeartbeatRequest partition", True, id="a partition for this kind does"),
    ],
)
def test_what_a_receiver_cuts(rule: str, is_cut: bool) -> None:
    faults = layer(rule)
    assert faults.cuts(TWO, ME, heartbeat()) is is_cut
    assert faults.dropped == is_cut


def test_rules_of_a_program_are_checked_as_well() -> None:
    with pytest.raises(FaultError, match="there is no node 9"):
        check_rules([Rule(src=NodeId(9), loss=1.0)], MEMBERS, KINDS)
