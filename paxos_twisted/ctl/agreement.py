"""Do all replicas hold the same? What `paxosctl verify`, the demo and the soak ask of a cluster that is quiet."""

import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

import msgspec

from paxos_twisted.ctl.node_api import NodeApi, NodeError, NodeStatus, all_statuses
from paxos_twisted.types import NodeId

QUIET_POLL_S: Final = 0.02
"""Between two looks at the nodes."""

LEADERLESS: Final = frozenset({"epaxos"})
"""Engines in which every node serves. Their nodes count what they have executed, each in an order of its own: only in
quiet do the same counts mean the same state."""

Statuses = Mapping[NodeId, NodeStatus | NodeError]


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    VIOLATION = "violation"
    UNKNOWN = "unknown"
    """It could not be told: a node does not answer, or the cluster is not quiet."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    text: str
    """What was seen."""


def judge(statuses: Statuses) -> list[Check]:
    """Compare what the nodes said, each at its own moment: what is equal at all times, and what is equal in quiet."""
    known = {node: status for node, status in statuses.items() if isinstance(status, NodeStatus)}
    checks = [_answers(statuses)]
    if known:
        if is_leaderless(known.values()):
            checks += [_same_slots(known), _same_quiet_state(known), _slots_add_up(known)]
        else:
            checks += [_one_leader(known), _same_slots(known), _same_state(known), _slots_add_up(known)]
            checks += _same_commands(known)
    return checks


def verdict_of(checks: list[Check]) -> Verdict:
    """A violation wins over all, what could not be told over what is well."""
    verdicts = {check.verdict for check in checks}
    return next((verdict for verdict in (Verdict.VIOLATION, Verdict.UNKNOWN) if verdict in verdicts), Verdict.OK)


def is_leaderless(statuses: Iterable[NodeStatus]) -> bool:
    """Whether these nodes run an engine without a leader."""
    return any(status.engine in LEADERLESS for status in statuses)


def is_quiet(before: Statuses, now: Statuses) -> bool:
    """Whether one node leads and all follow it (where there are leaders), all have applied the same slots and told the
    hash of just that state, and nobody moved between two looks."""
    slots, followed, leading = set(), set(), set()
    for node, status in now.items():
        earlier = before.get(node)
        if not (isinstance(status, NodeStatus) and isinstance(earlier, NodeStatus)):
            return False
        if not status.adu == status.applied == status.state_hash.slot == earlier.applied:
            return False
        slots.add(status.applied)
        followed.add(status.leader)
        if status.role == "leader":
            leading.add(status.node)
    if is_leaderless(status for status in now.values() if isinstance(status, NodeStatus)):
        return len(slots) == 1
    return len(slots) == len(followed) == 1 and followed == leading


def wait_until_quiet(
    apis: Mapping[NodeId, NodeApi],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    ask: Callable[[Mapping[NodeId, NodeApi]], Statuses] = all_statuses,
) -> tuple[Statuses, bool]:
    """Look at the nodes until nothing moves any more, or for `timeout_s`. Returns the last look, and whether it was
    quiet. A difference of state hashes at the same slot, or a dead node, is not waited out: it will not get better."""
    deadline = clock() + timeout_s
    before = ask(apis)
    while True:
        sleep(QUIET_POLL_S)
        now = ask(apis)
        if is_quiet(before, now):
            return now, True
        if clock() >= deadline or verdict_of(judge(now)) is Verdict.VIOLATION:
            return now, False
        before = now


def _answers(statuses: Statuses) -> Check:
    silent = {node: status for node, status in statuses.items() if isinstance(status, NodeError)}
    if silent:
        return Check("all nodes answer", Verdict.UNKNOWN, "; ".join(f"node {n}: {why}" for n, why in silent.items()))
    return Check("all nodes answer", Verdict.OK, f"{len(statuses)} nodes")


def _one_leader(known: Mapping[NodeId, NodeStatus]) -> Check:
    """Two leaders of different rounds may believe in themselves for a moment; two of one round never."""
    name = "one leader"
    rounds: dict[int, int] = {}
    for status in known.values():
        if status.role == "leader":
            if status.round in rounds:
                text = f"nodes {rounds[status.round]} and {status.node} both lead round {status.round}"
                return Check(name, Verdict.VIOLATION, text)
            rounds[status.round] = status.node
    leaders = {status.leader for status in known.values()}
    if len(leaders) == 1 and len(rounds) == 1:
        rnd, node = next(iter(rounds.items()))
        return Check(name, Verdict.OK, f"node {node}, round {rnd}")
    return Check(name, Verdict.UNKNOWN, "nodes do not agree on who leads (an election may be under way)")


def _same_slots(known: Mapping[NodeId, NodeStatus]) -> Check:
    name = "same slots decided and applied"
    if len({status.adu for status in known.values()} | {status.applied for status in known.values()}) == 1:
        slots = next(iter(known.values())).adu + 1
        return Check(name, Verdict.OK, f"{slots:,} slots")
    text = ", ".join(f"node {node}: {status.applied + 1:,} of {status.adu + 1:,}" for node, status in known.items())
    return Check(name, Verdict.UNKNOWN, f"not yet: applied {text}")


def _same_state(known: Mapping[NodeId, NodeStatus]) -> Check:
    """Hashes of one slot must be equal at any time; in quiet all are of one slot."""
    name = "same state"
    digests: dict[int, dict[str, list[NodeId]]] = {}
    for node, status in known.items():
        digests.setdefault(status.state_hash.slot, {}).setdefault(status.state_hash.digest, []).append(node)
    for slot, holders in digests.items():
        if len(holders) > 1:
            text = "; ".join(f"nodes {_listed(nodes)} hold {digest[:12]}" for digest, nodes in holders.items())
            return Check(name, Verdict.VIOLATION, f"after slot {slot}: {text}")
    if len(digests) > 1:
        return Check(name, Verdict.UNKNOWN, "the nodes told hashes of different slots")
    slot, holders = next(iter(digests.items()))
    return Check(name, Verdict.OK, f"hash {next(iter(holders))[:12]} after slot {slot}")


def _same_quiet_state(known: Mapping[NodeId, NodeStatus]) -> Check:
    """Where orders differ, hashes say something when every node has executed everything that it knows of."""
    resting = {status.applied for status in known.values() if status.adu == status.applied == status.state_hash.slot}
    if len(resting) == 1 and all(status.adu == status.state_hash.slot for status in known.values()):
        return _same_state(known)
    return Check("same state", Verdict.UNKNOWN, "the nodes are not at rest")


def _slots_add_up(known: Mapping[NodeId, NodeStatus]) -> Check:
    name = "slots = commands + no-ops + duplicates"
    for node, status in known.items():
        if status.commands.slots != status.applied + 1:
            text = f"node {node} applied {status.applied + 1:,} slots but counts {status.commands.slots:,}"
            return Check(name, Verdict.VIOLATION, text)
    whole = [status for status in known.values() if not status.commands.from_snapshot]
    if not whole:
        return Check(name, Verdict.OK, "adds up on every node (the beginning came with a snapshot)")
    status = max(whole, key=lambda status: status.applied)
    commands = status.commands
    text = f"{commands.slots:,} = {commands.applied:,} + {commands.noops:,} + {commands.duplicates:,}"
    return Check(name, Verdict.OK, text)


def _same_commands(known: Mapping[NodeId, NodeStatus]) -> list[Check]:
    """Nodes that have applied the same slots one by one have seen the same commands in them."""
    seen: dict[int, dict[tuple[int, int, int], list[NodeId]]] = {}
    for node, status in known.items():
        commands = status.commands
        if not commands.from_snapshot:
            counts = (commands.applied, commands.noops, commands.duplicates)
            seen.setdefault(status.applied, {}).setdefault(counts, []).append(node)
    name = "same commands in effect"
    for slot, holders in seen.items():
        if len(holders) > 1:
            text = "; ".join(f"nodes {_listed(nodes)} count {counts}" for counts, nodes in holders.items())
            return [Check(name, Verdict.VIOLATION, f"(commands, no-ops, duplicates) up to slot {slot}: {text}")]
    return []


def _listed(nodes: list[NodeId]) -> str:
    return ", ".join(map(str, nodes))
