"""The chat's experiments on real processes: all is well, primaries die, slots are skipped, messages lost. [CH-22 … 34]

Every node writes what it applies into a log of its own; afterwards the logs are compared, slot by slot.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from paxos_twisted.cluster.client_runs import ClientRun
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.node.applied_log import read_applied
from paxos_twisted.types import NodeId, Slot

CLIENTS_END_S: Final = 120.0
"""Clients have said everything by then, or they never will."""

SAME_S: Final = 15.0
"""Replicas that live have applied the same slots by then."""

VOTES_S: Final = 1.0
"""What was proposed is voted for by then: some milliseconds, on a machine that is not busy."""

TAIL: Final = 3
"""Last lines of each log that are shown."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    name: str
    f: int = 1
    clients: int = 3
    messages: int = 20
    """Per client, one behind the other."""
    kills: int = 0
    """How often the primary is killed, spread over the run."""
    loss: float = 0.0
    """Of messages between nodes, and between clients and nodes."""
    skip_slots: tuple[int, ...] = ()
    timeout: str = ""
    """A client's patience with one node, e.g. 300ms; by default the client's own."""
    engine: str = "multipaxos"


class ReplicaLog(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica has applied."""

    node: int
    pid: int | None
    is_alive: bool
    slots: int
    noops: list[int]
    """Slots that hold a no-op."""
    tail: list[str]
    """The last lines."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run."""

    plan: Plan
    findings: list[str]
    """What is wrong; empty: passed."""
    answered: int
    asked: int
    primaries: list[int]
    """Who led, one after the other."""
    reconnects: int
    seconds: float
    logs: list[ReplicaLog]

    @property
    def passed(self) -> bool:
        """Nothing is wrong."""
        return not self.findings


def standard_plans(messages: int, clients: int) -> list[Plan]:
    """The five experiments of the text."""
    every: dict[str, Any] = {"messages": messages, "clients": clients}
    plans = [Plan(name=f"1 normal operation, f = {f}", f=f, **every) for f in (1, 2, 3)]
    plans.append(Plan(name="2 the primary dies", kills=1, **every))
    plans.append(Plan(name="3 the primary dies f times, f = 2", f=2, kills=2, **every))
    plans.append(Plan(name="4 skipped slots become no-ops", kills=1, skip_slots=(4, 7, 8), **every))
    plans += [
        Plan(name=f"5 {percent} % of all messages are lost", loss=percent / 100, timeout="400ms", **every)
        for percent in (1, 5, 10, 20)
    ]
    return plans


def run_chat(plan: Plan, directory: Path, tell: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run a cluster and its clients to their end, and compare the logs.

    Raises:
        ClusterError: the cluster did not start, or nobody leads.
    """
    cluster = LocalCluster.create(directory, plan.f, application="chat", engine=plan.engine, name="chat")
    for node in cluster.members:
        cluster.options[node] = ["--applied-log", str(_applied(directory, node))]
        if plan.loss:
            cluster.options[node] += ["--loss", f"{plan.loss:g}"]
    initial = max(cluster.members)
    if plan.skip_slots:
        cluster.options[initial] += ["--skip-slots", ",".join(map(str, plan.skip_slots))]
    with cluster, ExitStack() as clients:
        # The node with the highest id is the first to seek leadership; in a bare majority that it was there before, it
        # leads first. [CH-07, CH-10]
        cluster.start(initial)
        _wait_listening(cluster, initial)
        cluster.start(*cluster.members[: plan.f])
        primaries = [cluster.leader()]
        cluster.start()
        cluster.wait_ready()
        if plan.skip_slots:
            primaries = [_hand_over(cluster, initial)]
        started = time.monotonic()
        tell(", ".join(f"node {node}: pid {_pid(cluster, node)}" for node in cluster.members))
        tell(f"node {primaries[0]} leads")
        runs = [clients.enter_context(_client(plan, cluster, number)) for number in range(plan.clients)]
        _kill_primaries(plan, cluster, runs, primaries, tell)
        codes = _wait_for_clients(runs)
        seconds = time.monotonic() - started
        _wait_same(cluster)
        return _judge(plan, cluster, runs, codes, primaries, seconds)


# Inside


def _client(plan: Plan, cluster: LocalCluster, number: int) -> ClientRun:
    arguments = ["talk", "--output", "json", "--count", str(plan.messages), "--name", f"client-{number + 1}"]
    arguments += ["--seed", str(number), "--timeout", "60s"]
    if plan.loss:
        arguments += ["--loss", f"{plan.loss:g}"]
    if plan.timeout:
        arguments += ["--read-timeout", plan.timeout]
    return ClientRun("chatclient", arguments, cluster.config_path, cluster.directory / f"client-{number + 1}.jsonl")


def _kill_primaries(
    plan: Plan, cluster: LocalCluster, runs: Sequence[ClientRun], primaries: list[NodeId], tell: Callable[[str], None]
) -> None:
    for number in range(plan.kills):
        if plan.skip_slots:
            _wait_stuck(cluster, primaries[-1], plan.skip_slots)
        else:
            # By what was said, not by the clock: the run is not over before the last one dies. [TR-14]
            runs[0].wait_lines(plan.messages * (number + 1) // (plan.kills + 1), CLIENTS_END_S)
        primary = primaries[-1]
        cluster.kill(primary)
        primaries.append(cluster.leader(other_than=primary))
        tell(f"killed node {primary}; node {primaries[-1]} leads")


def clients_needed(skip_slots: Sequence[int]) -> int:
    """Clients that must wait for an answer at the same time so that something is voted for above all skipped slots:
    each has one message under way, and nothing behind the first hole is answered."""
    hole, last = min(skip_slots), max(skip_slots)
    return last - hole + 2 - len(set(skip_slots))


def _wait_stuck(cluster: LocalCluster, leader: NodeId, skip_slots: Sequence[int]) -> None:
    """Until the leader has proposed something above the last skipped slot, and the others have voted for it."""
    hole, last = min(skip_slots), max(skip_slots)
    deadline = time.monotonic() + CLIENTS_END_S
    while time.monotonic() < deadline:
        told = cluster.apis[leader].metrics()
        applied = re.search(r"^paxos_applied_slot (-?\d+)", told, re.MULTILINE)
        proposed = re.search(r"^paxos_proposals_open (\d+)", told, re.MULTILINE)
        assert applied is not None and proposed is not None
        if int(applied[1]) == hole - 1 and int(applied[1]) + int(proposed[1]) > last:
            time.sleep(VOTES_S)
            return
        time.sleep(0.05)
    raise ClusterError(f"nothing was proposed above the skipped slots {', '.join(map(str, skip_slots))}")


def _wait_for_clients(runs: Sequence[ClientRun]) -> list[int | None]:
    deadline = time.monotonic() + CLIENTS_END_S
    return [run.wait(max(deadline - time.monotonic(), 0.1)) for run in runs]


def _hand_over(cluster: LocalCluster, wanted: NodeId) -> NodeId:
    """On a busy machine another node may have been faster: it hands over, before anything was said."""
    for _ in range(10):
        leader = cluster.leader()
        if leader == wanted:
            return leader
        cluster.apis[leader].order("handover", {})
        time.sleep(0.5)
    raise ClusterError(f"node {wanted}, which is to skip slots, does not lead")


def _wait_listening(cluster: LocalCluster, node: NodeId) -> None:
    deadline = time.monotonic() + SAME_S
    while time.monotonic() < deadline and "listens on" not in _text(cluster.log(node)):
        time.sleep(0.02)


def _wait_same(cluster: LocalCluster) -> None:
    """Until all that live have applied the same."""
    deadline = time.monotonic() + SAME_S
    while time.monotonic() < deadline:
        ends = {max(read_applied(_applied(cluster.directory, node)), default=-1) for node in cluster.alive()}
        if len(ends) == 1:
            return
        time.sleep(0.1)


def _judge(
    plan: Plan,
    cluster: LocalCluster,
    runs: Sequence[ClientRun],
    codes: Sequence[int | None],
    primaries: Sequence[NodeId],
    seconds: float,
) -> Outcome:
    logs = {node: read_applied(_applied(cluster.directory, node)) for node in cluster.members}
    alive = cluster.alive()
    findings = [f"client {number} ended with {code}" for number, code in enumerate(codes, 1) if code != 0]
    longest = max(logs.values(), key=len)
    for node, log in logs.items():
        slots = sorted(log)
        if slots != list(range(len(slots))):
            findings.append(f"the log of node {node} has gaps")
        differs = [slot for slot in slots if log[slot] != longest[slot]]
        if differs:
            findings.append(f"the log of node {node} differs in slot {differs[0]}")
        if node in alive and len(log) != len(longest):
            findings.append(f"node {node} lives and has {len(log)} slots of {len(longest)}")
        if plan.skip_slots and node in alive:
            full = [slot for slot in plan.skip_slots if log.get(Slot(slot), {}).get("op", "") is not None]
            findings += [f"slot {slot} of node {node} is no no-op" for slot in full]
    answers = [line for run in runs for line in run.lines()]
    said = {entry["op"]["id"] for entry in longest.values() if entry["op"] is not None}
    lost = [line["id"] for line in answers if line["outcome"] == "ok" and line["id"] not in said]
    findings += [f"the acknowledged message {message} stands in no log" for message in lost[:5]]
    positions = [line["result"]["position"] for line in answers if line["outcome"] == "ok"]
    if len(set(positions)) != len(positions):
        findings.append("two messages were told the same position")
    return Outcome(
        plan=plan,
        findings=findings,
        answered=len(positions),
        asked=plan.clients * plan.messages,
        primaries=[int(node) for node in primaries],
        reconnects=sum(_text(run.errors).count("(") for run in runs),
        seconds=round(seconds, 3),
        logs=[
            ReplicaLog(
                node=node,
                pid=_pid(cluster, node),
                is_alive=node in alive,
                slots=len(log),
                noops=[slot for slot, entry in sorted(log.items()) if entry["op"] is None],
                tail=[_line(slot, log) for slot in sorted(log)[-TAIL:]],
            )
            for node, log in logs.items()
        ],
    )


def _line(slot: Slot, log: dict[Slot, dict[str, object]]) -> str:
    op = log[slot]["op"]
    return f"{slot}: " + (f"{op['author']}: {op['body']}" if isinstance(op, dict) else "no-op")


def _applied(directory: Path, node: NodeId) -> Path:
    path = directory / "logs" / f"applied-{node}.jsonl"
    path.touch()
    return path


def _pid(cluster: LocalCluster, node: NodeId) -> int | None:
    process = cluster.process(node)
    return None if process is None else process.pid


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
