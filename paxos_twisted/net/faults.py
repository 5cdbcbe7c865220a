"""The one message-fault layer: loss, delay, duplication, reordering, partitions, drawn from a seed.

It sits above the transport and decides what becomes of a message; it knows neither sockets nor clocks. The simulator
and the live node (on request, through the authenticated admin call) use the same code.

A rule names a direction, which messages it is for, and what happens to them:

    1->2 loss=0.2                      one message in five from node 1 to node 2 is lost
    *->* delay=20ms jitter=5ms         every message takes 20 to 25 ms
    1<->* partition                    node 1 is cut off, in both directions
    3->1 kinds=Learn,Accept pause=2s   these two kinds are held for two seconds, others pass

Rules add up: a message is delivered if no rule drops it, after the sum of all delays.
"""

import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from paxos_twisted.limits import FAULT_RULES_MAX, NODE_ID_MAX
from paxos_twisted.types import NodeId

Place = Annotated[NodeId, Meta(ge=1, le=NODE_ID_MAX)] | Literal["*"]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]

NORMAL: Final = (0,)
"""Plan of a message that nothing happens to: one copy, at once."""

DROPPED: Final = ()
"""Plan of a message that never arrives."""


class FaultError(ValueError):
    """The rules are not understood or make no sense. The text says which one and why."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to the messages of one direction. Probabilities are of one message, times in milliseconds."""

    src: Place = "*"
    dst: Place = "*"
    both: bool = False
    """The rule holds for the way back as well."""
    kinds: tuple[str, ...] = ()
    """Names of message types, e.g. "Accept". Empty: all."""
    loss: Probability = 0.0
    partition: bool = False
    """Everything is lost."""
    delay_ms: Milliseconds = 0
    jitter_ms: Milliseconds = 0
    """Up to this much more delay, evenly distributed. The order of messages stays."""
    duplicate: Probability = 0.0
    duplicate_ms: Milliseconds = 0
    """The copy comes up to this much later."""
    reorder: Probability = 0.0
    reorder_ms: Milliseconds = 50
    """A reordered message comes this much later, and others overtake it."""
    pause_ms: Milliseconds = 0
    """Messages are held until this long after the rules were set."""

    def matches(self, src: NodeId, dst: NodeId) -> bool:
        """Whether messages from `src` to `dst` are meant."""
        return self._is_way(src, dst) or (self.both and self._is_way(dst, src))

    def _is_way(self, src: NodeId, dst: NodeId) -> bool:
        return self.src in ("*", src) and self.dst in ("*", dst)

    def does_nothing(self) -> bool:
        """A rule without any fault is a mistake of its author."""
        faults = (self.loss, self.delay_ms, self.jitter_ms, self.duplicate, self.reorder, self.pause_ms)
        return not (self.partition or any(faults))


class FaultRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /admin/fault` takes. No rules: the layer is taken out again."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    rules: Annotated[tuple[str | Rule, ...], Meta(max_length=FAULT_RULES_MAX)] = ()
    """Each one in the text form or as an object."""


class FaultLayer:
    """Decides the fate of messages. The same seed, rules and calls give the same fates."""

    __slots__ = ("_fifo", "_pairs", "_random", "_set_ms", "delayed", "dropped", "duplicated", "rules")

    def __init__(self, rules: Iterable[Rule], rng: random.Random, now_ms: int) -> None:
        self.rules = tuple(rules)
        self.dropped = 0
        self.delayed = 0
        self.duplicated = 0
        self._random = rng
        self._set_ms = now_ms
        self._pairs: dict[tuple[NodeId, NodeId], tuple[Rule, ...]] = {}
        # Time at which the newest message of a flow arrives: none that is not reordered may come before it.
        self._fifo: dict[tuple[NodeId, NodeId, str], int] = {}

    def plan(self, src: NodeId, dst: NodeId, message: Any, now_ms: int) -> tuple[int, ...]:
        """Return after how many milliseconds each copy of a message arrives: (0,) normally, () if it is lost.

        Messages that arrive in the same millisecond must be delivered in the order in which they were sent.
        """
        rules = self._rules_of(src, dst)
        if not rules:
            return NORMAL
        kind = type(message).__name__
        chance = self._random.random
        flow, delay, late = "", 0, 0
        copies: list[int] = []
        for rule in rules:
            if rule.kinds:
                if kind not in rule.kinds:
                    continue
                flow = kind  # messages of other kinds may overtake the ones that a rule singles out
            if rule.partition or (rule.loss and chance() < rule.loss):
                self.dropped += 1
                return DROPPED
            delay += rule.delay_ms + int(chance() * (rule.jitter_ms + 1)) if rule.jitter_ms else rule.delay_ms
            if rule.pause_ms:
                delay = max(delay, self._set_ms + rule.pause_ms - now_ms)
            if rule.reorder and chance() < rule.reorder:
                late += rule.reorder_ms
            if rule.duplicate and chance() < rule.duplicate:
                copies.append(int(chance() * (rule.duplicate_ms + 1)))
        if late:
            delay += late
        else:
            key = (src, dst, flow)
            due = max(now_ms + delay, self._fifo.get(key, now_ms))
            self._fifo[key] = due
            delay = due - now_ms
        if delay:
            self.delayed += 1
        if not copies:
            return (delay,) if delay else NORMAL
        self.duplicated += len(copies)
        return (delay, *(delay + lag for lag in copies))

    def cuts(self, src: NodeId, dst: NodeId, message: Any) -> bool:
        """Whether a partition keeps this message from arriving; for the receiving side of a live node.

        A live node plans what it sends. What it receives it only cuts, so that rules set on one node cut it off in both
        directions, and rules set on all nodes do not hit a message twice.
        """
        for rule in self._rules_of(src, dst):
            if rule.partition and (not rule.kinds or type(message).__name__ in rule.kinds):
                self.dropped += 1
                return True
        return False

    def _rules_of(self, src: NodeId, dst: NodeId) -> tuple[Rule, ...]:
        rules = self._pairs.get((src, dst))
        if rules is None:
            rules = tuple(rule for rule in self.rules if rule.matches(src, dst))
            self._pairs[src, dst] = rules
        return rules


def read_request(
    order: Mapping[str, Any], members: Collection[NodeId], kinds: Collection[str]
) -> tuple[int, tuple[Rule, ...]]:
    """Return the seed and the rules of a `FaultRequest` that came as a JSON object.

    Raises:
        FaultError: with one sentence for people that says what is wrong where.
    """
    try:
        request = msgspec.convert(order, FaultRequest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FaultError(f"the fault request is not understood: {error}") from error
    rules = tuple(rule if isinstance(rule, Rule) else parse_rule(rule) for rule in request.rules)
    check_rules(rules, members, kinds)
    return request.seed, rules


def check_rules(rules: Sequence[Rule], members: Collection[NodeId], kinds: Collection[str]) -> None:
    """Check that rules speak of nodes and message types that exist, and do something.

    Raises:
        FaultError: naming the first rule that does not.
    """
    for rule in rules:
        text = format_rule(rule)
        for place in (rule.src, rule.dst):
            if place != "*" and place not in members:
                raise FaultError(f"rule {text!r}: there is no node {place}; nodes are {_listed(members)}")
        if rule.src == rule.dst != "*":
            raise FaultError(f"rule {text!r}: a node sends nothing to itself")
        for kind in rule.kinds:
            if kind not in kinds:
                raise FaultError(f"rule {text!r}: there is no message {kind!r}; messages are {_listed(kinds)}")
        if rule.does_nothing():
            raise FaultError(f"rule {text!r} does nothing; give it one of {', '.join(_WORDS)}")


_RULE = re.compile(r"(\*|\d{1,3})\s*(<->|->)\s*(\*|\d{1,3})((?:\s+\S+)+)\s*")
_DURATION = re.compile(r"(\d{1,7})(ms|s)")
_WORDS = ("partition", "loss", "delay", "jitter", "duplicate", "duplicate_by", "reorder", "reorder_by", "pause")
_FIELDS = {
    "delay": "delay_ms",
    "jitter": "jitter_ms",
    "duplicate_by": "duplicate_ms",
    "reorder_by": "reorder_ms",
    "pause": "pause_ms",
}


def parse_rule(text: str) -> Rule:
    """Read one rule in the text form, e.g. "1<->2 delay=20ms loss=0.1".

    Raises:
        FaultError: with the word that is not understood.
    """
    match = _RULE.fullmatch(text.strip())
    if match is None:
        raise FaultError(f"rule {text!r} is not like '1->2 loss=0.2' (nodes by id or *, -> or <->)")
    source, arrow, target, words = match.groups()
    fields: dict[str, Any] = {"src": _place(source), "dst": _place(target), "both": arrow == "<->"}
    for word in words.split():
        name, equals, value = word.partition("=")
        if name == "partition" and not equals:
            fields["partition"] = True
        elif name == "kinds" and value:
            fields["kinds"] = tuple(value.split(","))
        elif name in _FIELDS:
            fields[_FIELDS[name]] = _milliseconds(text, word, value)
        elif name in ("loss", "duplicate", "reorder"):
            fields[name] = _probability(text, word, value)
        else:
            raise FaultError(f"rule {text!r}: {word!r} is none of kinds=, {', '.join(_WORDS)}")
    try:
        return msgspec.convert(fields, Rule)
    except msgspec.ValidationError as error:
        raise FaultError(f"rule {text!r}: {error}") from error


def format_rule(rule: Rule) -> str:
    """The rule in the text form; `parse_rule` reads it back."""
    words = [f"{rule.src}{'<->' if rule.both else '->'}{rule.dst}"]
    if rule.kinds:
        words.append("kinds=" + ",".join(rule.kinds))
    if rule.partition:
        words.append("partition")
    words += [f"{name}={value!r}" for name in ("loss", "duplicate", "reorder") if (value := getattr(rule, name))]
    for name, field in _FIELDS.items():
        if (value := getattr(rule, field)) != Rule.__struct_defaults__[Rule.__struct_fields__.index(field)]:
            words.append(f"{name}={value}ms")
    return " ".join(words)


def _place(text: str) -> int | str:
    return text if text == "*" else int(text)


def _milliseconds(rule: str, word: str, value: str) -> int:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise FaultError(f"rule {rule!r}: {word!r} needs a time with a unit, like 20ms or 2s")
    return int(match[1]) * (1000 if match[2] == "s" else 1)


def _probability(rule: str, word: str, value: str) -> float:
    try:
        probability = float(value)
    except ValueError:
        probability = -1.0
    if not 0.0 <= probability <= 1.0:  # not a number is neither
        raise FaultError(f"rule {rule!r}: {word!r} needs a probability from 0 to 1")
    return probability


def _listed(values: Collection[object]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))
