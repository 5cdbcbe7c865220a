"""The three situations of the EPaxos course text, played on five real replicas, with the messages that they sent.

The text numbers replicas from 0; our nodes have the ids 1 to 5. So replica 0 of the text is node 1 here, and the text's
instance 3.0 is the first one of node 4. In every situation a fast quorum has three replicas: the owner and the next
two.

1. *Fast path.* Two conflicting writes, at replica 0 and then at replica 3. The first is committed everywhere before the
   second begins, so all replicas see the same dependencies: one round trip each.
2. *Slow path.* The same, but the Commits of replica 0 are paused. Replica 3 and its next peer do not know the first
   write, its other peer, replica 0, does: the answers differ, and it takes a second round trip to agree.
3. *A read that waits for execution.* A write at replica 0, whose Commits are paused, and a read at replica 2. Replica 2
   has pre-accepted the write: the read depends on it, is committed, and waits until the write is committed and
   executed, too.
"""

import re
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from paxos_twisted_client.endpoints import parse_address
from paxos_twisted_client.options import Patience
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.session import OK
from twisted.internet.threads import deferToThread

from paxos_twisted.apps.kv import Get, KvOp, Put, Value
from paxos_twisted.apps.kv_json import op_json, result_json, show
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.types import NodeId

NODES: Final = 5
PAUSE_MS: Final = 2000
"""How long Commits are held back."""

CONFIG: Final = "epaxos: {answer: 20s, recover: 60s, hold: 60s}\ntimeouts: {catch_up: 30s}\n"
"""Nobody helps a paused instance along: neither its owner, by asking all replicas, nor others, by recovering it."""

PATIENCE: Final = Patience(read_s=20.0, request_s=30.0)
"""A request that waits for a paused commit must not be repeated: it would be proposed once more."""

TRACE: Final = ("--trace", "attributes")

_COMMITS = re.compile(r'^paxos_epaxos_commits_total\{[^}]*path="(\w+)"[^}]*\} (\d+)', re.MULTILINE)
_SENT = re.compile(r"^\S+?T(\S+)Z node (\d+) info  to ([\d, ]+): ((?:PreAccept|Accept|Commit) .*)$")


class Ended(NamedTuple):
    """A request that a client made at one replica."""

    replica: int
    """As the course text numbers them: from 0."""
    op: KvOp
    result: Any
    milliseconds: float
    path: str
    """fast or slow, as the replica has counted it; several, if others came in between."""


class Message(NamedTuple):
    """What a replica sent, from its log."""

    time: str
    sender: int
    """Replicas as the text numbers them."""
    receivers: tuple[int, ...]
    text: str


class Situation(NamedTuple):
    """One situation, as it was played."""

    number: int
    title: str
    requests: Sequence[Ended]
    messages: Sequence[Message]
    wrong: Sequence[str]
    """What was not as the text says; empty: all was."""


async def run_course(reactor: Any, cluster: LocalCluster, on_played: Callable[[Situation], object]) -> list[Situation]:
    """Play the three situations on `cluster`: five nodes of engine epaxos with application kv, made, not started."""
    course = _Course(reactor, cluster)
    try:
        return await course.run(on_played)
    finally:
        await course.close()


class _Course:
    def __init__(self, reactor: Any, cluster: LocalCluster) -> None:
        self._cluster = cluster
        cluster.options = {node: list(TRACE) for node in cluster.members}
        addresses = cluster.config.addresses
        self._pools = [
            Pool(
                reactor,
                [parse_address(addresses[node])],
                cluster=cluster.config.shared.cluster,
                application="kv",
                patience=PATIENCE,
                rng=Random(node),
            )
            for node in cluster.members
        ]
        self._read: dict[NodeId, int] = {}

    async def run(self, on_played: Callable[[Situation], object]) -> list[Situation]:
        cluster = self._cluster
        cluster.start()
        await deferToThread(cluster.wait_ready)
        for pool in self._pools:
            await pool.connect()
        played = []
        for number, play in enumerate((self._fast, self._slow, self._wait), 1):
            await deferToThread(self._new_messages)
            situation = await play(number)
            await deferToThread(self._pause, False)
            on_played(situation)
            played.append(situation)
        return played

    async def close(self) -> None:
        for pool in self._pools:
            await pool.close()

    async def _fast(self, number: int) -> Situation:
        first = await self._ask(0, Put("a", b"zero"))
        await deferToThread(self._until_known)
        second = await self._ask(3, Put("a", b"three"))
        wrong = [f"replica {one.replica} took the {one.path} path" for one in (first, second) if one.path != "fast"]
        return await self._told(number, "two conflicting writes: fast path", [first, second], wrong)

    async def _slow(self, number: int) -> Situation:
        await deferToThread(self._until_known)
        await deferToThread(self._pause, True)
        first = await self._ask(0, Put("a", b"zero again"))
        second = await self._ask(3, Put("a", b"three again"))
        wrong = []
        if first.path != "fast":
            wrong.append(f"the write at replica 0 took the {first.path} path")
        if second.path != "slow":
            wrong.append(f"the write at replica 3 took the {second.path} path, although replica 0 knew another one")
        await deferToThread(self._until_known)
        return await self._told(number, "the same with paused commits: slow path", [first, second], wrong)

    async def _wait(self, number: int) -> Situation:
        await deferToThread(self._until_known)
        paused = time.monotonic()
        await deferToThread(self._pause, True)
        write = await self._ask(0, Put("b", b"new"))
        read = await self._ask(2, Get("b"))
        passed_ms = (time.monotonic() - paused) * 1000
        wrong = []
        if read.result != Value(b"new"):
            wrong.append(f"the read at replica 2 did not see the write: {read.result}")
        if passed_ms < PAUSE_MS:
            wrong.append(f"the read at replica 2 was answered {passed_ms:.0f} ms after commits were paused")
        return await self._told(number, "a read that waits for a paused commit", [write, read], wrong)

    async def _ask(self, replica: int, op: KvOp) -> Ended:
        node = self._cluster.members[replica]
        before = await deferToThread(self._commits, node)
        request = await self._pools[replica].session().call(op)
        after = await deferToThread(self._commits, node)
        paths = [path for path in after for _ in range(after[path] - before.get(path, 0))]
        took_ms = (request.finished_ns - request.started_ns) / 1e6
        result = request.result if request.outcome == OK else request.text
        return Ended(replica, op, result, took_ms, " and ".join(paths) or "unknown")

    async def _told(self, number: int, title: str, requests: list[Ended], wrong: list[str]) -> Situation:
        wrong += [f"replica {one.replica} answered: {one.result}" for one in requests if isinstance(one.result, str)]
        return Situation(number, title, requests, await deferToThread(self._new_messages), wrong)

    # In a thread.

    def _commits(self, node: NodeId) -> dict[str, int]:
        return {path: int(count) for path, count in _COMMITS.findall(self._cluster.apis[node].metrics())}

    def _pause(self, is_paused: bool) -> None:
        """Hold the Commits of replica 0 back, or let all go."""
        rules = [f"1->* kinds=Commit pause={PAUSE_MS}ms"] if is_paused else []
        self._cluster.apis[self._cluster.members[0]].order("fault", {"seed": 0, "rules": rules})

    def _until_known(self) -> None:
        """Wait until every replica has executed the same number of commands, and nothing is under way."""

        def is_known() -> bool:
            statuses = [self._cluster.apis[node].status() for node in self._cluster.members]
            return len({status.applied for status in statuses} | {status.adu for status in statuses}) == 1

        self._cluster.until(is_known, 30.0, "the replicas do not come to rest")

    def _new_messages(self) -> list[Message]:
        """What the replicas have logged since the last call, in the order of time."""
        found = []
        for node in self._cluster.members:
            with self._cluster.log(node).open("rb") as file:
                file.seek(self._read.get(node, 0))
                text = file.read()
                self._read[node] = file.tell()
            for line in text.decode("utf-8", "replace").splitlines():
                sent = _SENT.match(line)
                if sent is not None:
                    receivers = tuple(int(number) - 1 for number in sent[3].split(","))
                    found.append(Message(sent[1], int(sent[2]) - 1, receivers, sent[4]))
        return sorted(found)


def in_words(situation: Situation) -> list[str]:
    """A situation for people, line by line."""
    lines = [f"{situation.number}. {situation.title}"]
    for one in situation.requests:
        what = f"put {one.op.key} {show(one.op.value)}" if isinstance(one.op, Put) else f"get {one.op.key}"  # type: ignore[union-attr]
        said = "done"
        if isinstance(one.result, Value):
            said = "nothing" if one.result.value is None else show(one.result.value)
        elif isinstance(one.result, str):
            said = one.result
        lines.append(f"   replica {one.replica}: {what} -> {said}   ({one.path} path, {one.milliseconds:.1f} ms)")
    lines += [
        f"     {message.time}  {message.sender} to {', '.join(map(str, message.receivers))}: {message.text}"
        for message in situation.messages
    ]
    return [*lines, *(f"   WRONG: {text}" for text in situation.wrong)]


def course_json(situation: Situation) -> dict[str, Any]:
    """A situation for programs."""
    return {
        "number": situation.number,
        "title": situation.title,
        "requests": [
            {
                "replica": one.replica,
                "op": op_json(one.op),
                "result": one.result if isinstance(one.result, str) else result_json(one.result),
                "path": one.path,
                "ms": round(one.milliseconds, 3),
            }
            for one in situation.requests
        ],
        "messages": [message._asdict() for message in situation.messages],
        "wrong": list(situation.wrong),
    }
