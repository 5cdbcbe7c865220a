"""What is done to a cluster under load, one round at a time: a fault, the wait until clients are served, the repair."""

import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from paxos_twisted.anatomy.facts import Fault, Wait
from paxos_twisted.cluster.load import Load
from paxos_twisted.cluster.local import GONE, STOP_S, LocalCluster
from paxos_twisted.ctl.node_api import NodeStatus, who_leads
from paxos_twisted.types import NodeId

SERVED_S: Final = 30.0
"""With a majority up, clients must be served again by then: a hundred times longer than it takes."""

READY_S: Final = 60.0
"""A node that was started must be ready by then."""

POLL_S: Final = 0.005
READY_POLL_S: Final = 0.03

Value = TypeVar("Value")


class Stuck(Exception):
    """The cluster does not come back to life: a violated promise of progress."""


class Round(NamedTuple):
    """What one round has shown."""

    at: str
    """When the fault came, as node logs write it."""
    kind: str
    gap_ms: float
    """The longest time that a client waited for an answer because of the fault."""
    repair_gap_ms: float
    """The same, while nodes came back; 0 when clients were not served before that anyway."""
    leader_changed: bool
    seconds: float
    fault: Fault | None = None
    """When it struck, by the clock of the load, and whom. None: nothing that was over in a moment."""
    waits: Sequence[Wait] = ()
    """The longest wait of each client because of the fault, if clients were served before the repair."""


class Nemesis:
    """Does harm to a cluster, and repairs it."""

    def __init__(
        self, reactor: Any, cluster: LocalCluster, load: Load, rng: Random, *, is_leaderless: bool = False
    ) -> None:
        """`is_leaderless`: every node serves clients, and the victim may be any of them."""
        self._reactor = reactor
        self._cluster = cluster
        self._load = load
        self._rng = rng
        self._fault: Fault | None = None
        self._faults: dict[str, Callable[[NodeId, list[NodeId]], Awaitable[bool]]] = {
            "kill leader": self._kill_leader,
            "kill follower": self._kill_follower,
            "kill majority": self._kill_majority,
            "kill all": self._kill_all,
            "freeze leader": self._freeze_leader,
            "freeze follower": self._freeze_follower,
            "blink leader": self._blink_leader,
            "restart leader": self._restart_leader,
            "restart follower": self._restart_follower,
        }
        assert self._faults.keys() == WEIGHTS.keys()
        self.weights = LEADERLESS_WEIGHTS if is_leaderless else WEIGHTS
        if is_leaderless:
            self._faults = {kind: self._faults[kind.replace("replica", "leader")] for kind in LEADERLESS_WEIGHTS}
        self._is_leaderless = is_leaderless

    def draw(self) -> str:
        """Choose a kind of fault."""
        return self._rng.choices(list(self.weights), list(self.weights.values()))[0]

    async def round(self, kind: str) -> Round:
        """One round: do it, wait until clients are served, repair, wait until all nodes are ready.

        Raises:
            Stuck: clients are not served, or a node does not come back.
        """
        leader, rnd = await self.victim()
        others = [node for node in self._cluster.members if node != leader]
        self._rng.shuffle(others)
        started = time.monotonic()
        at = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        self._load.forget_gaps()
        self._fault = None
        is_served = await self._faults[kind](leader, others)
        gap_ms = repair_gap_ms = 0.0
        waits: Sequence[Wait] = ()
        if is_served:
            gap_ms = self._load.longest_gap_ms()
            waits = self._load.longest_waits()
            self._load.forget_gaps()
        await self._repair()
        if is_served:
            repair_gap_ms = self._load.longest_gap_ms()
        else:
            gap_ms = self._load.longest_gap_ms()
        changed = not self._is_leaderless and self._is_other(leader, rnd, *await self.leader())
        return Round(at, kind, gap_ms, repair_gap_ms, changed, time.monotonic() - started, self._fault, waits)

    def _is_other(self, leader: NodeId, rnd: int, leader_now: NodeId, rnd_now: int) -> bool:
        """Whether leadership has moved. A primary begins an epoch also when only its backups change."""
        if self._cluster.config.shared.engine == "primary-backup":
            return leader != leader_now
        return (leader, rnd) != (leader_now, rnd_now)

    async def victim(self) -> tuple[NodeId, int]:
        """Whom the next fault is about: the leader and its round; without leaders any node, and 0."""
        if self._is_leaderless:
            return self._rng.choice(self._cluster.members), 0
        return await self.leader()

    async def leader(self) -> tuple[NodeId, int]:
        """Who leads, and its round. The running nodes must agree about it.

        Raises:
            Stuck: nobody does for long.
        """
        found: list[tuple[NodeId, int]] = []

        async def is_known() -> bool:
            statuses = await self._in_thread(self._cluster.statuses)
            leading = who_leads(statuses.values())
            status = None if leading is None else statuses[leading]
            if leading is None or not isinstance(status, NodeStatus):
                return False
            found.append((leading, status.round))
            known = [one for one in statuses.values() if isinstance(one, NodeStatus)]
            return all(one.leader == leading for one in known)

        await self.until(is_known, SERVED_S, "the nodes do not agree on a leader", READY_POLL_S)
        return found[-1]

    async def until(
        self, is_done: Callable[[], Awaitable[bool]], timeout_s: float, trouble: str, poll_s: float = POLL_S
    ) -> None:
        """Wait until something is so.

        Raises:
            Stuck: it is not, after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not await is_done():
            if time.monotonic() >= deadline:
                raise Stuck(f"{trouble} after {timeout_s:g} s")
            await self.pause(poll_s)

    def pause(self, seconds: float) -> "Deferred[None]":
        """Let time pass."""
        return deferLater(self._reactor, seconds)

    def _in_thread(self, function: Callable[..., Value], *arguments: Any) -> "Deferred[Value]":
        return deferToThread(function, *arguments)

    # The faults. What they break is repaired afterwards. Each returns whether clients were seen to be served again.

    async def _kill_leader(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._while_served(leader, self._kill)

    async def _kill_follower(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._while_served(others[0], self._kill)

    async def _kill_majority(self, leader: NodeId, others: list[NodeId]) -> bool:
        """The leader, and whoever may be about to take over."""
        self._cluster.kill(leader)
        await self.pause(self._rng.uniform(0, 0.08))
        self._cluster.kill(*others[: len(self._cluster.members) // 2])
        return False

    async def _kill_all(self, leader: NodeId, others: list[NodeId]) -> bool:
        self._cluster.kill_all()
        return False

    async def _freeze_leader(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._while_served(leader, self._cluster.freeze)

    async def _freeze_follower(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._while_served(others[0], self._cluster.freeze)

    async def _blink_leader(self, leader: NodeId, others: list[NodeId]) -> bool:
        """Frozen for less than anybody notices, or about as long."""
        self._cluster.freeze(leader)
        await self.pause(self._rng.uniform(0.02, 1.0))
        return False

    async def _restart_leader(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._stop(leader)

    async def _restart_follower(self, leader: NodeId, others: list[NodeId]) -> bool:
        return await self._stop(others[0])

    async def _stop(self, node: NodeId) -> bool:
        process = self._cluster.process(node)
        assert process is not None
        before = self._load.answers()
        self._strike(node, lambda _: process.send(signal.SIGTERM))

        async def is_gone() -> bool:
            return self._cluster.state(node) == GONE

        await self.until(is_gone, STOP_S, f"node {node} has not stopped")
        await self._until_served(before)
        return True

    # Inside

    async def _while_served(self, node: NodeId, break_it: Callable[[NodeId], object]) -> bool:
        before = self._load.answers()
        self._strike(node, break_it)
        if break_it == self._kill:
            self._cluster.kill(node)  # waits until it is gone
        await self._until_served(before)
        return True

    def _kill(self, node: NodeId) -> None:
        """Do not wait until it is gone: this moment is measured."""
        process = self._cluster.process(node)
        assert process is not None
        process.send(signal.SIGKILL)

    def _strike(self, node: NodeId, break_it: Callable[[NodeId], object]) -> None:
        begun_ns = self._load.now_ns()
        break_it(node)
        self._fault = Fault(begun_ns, self._load.now_ns(), frozenset({node}))

    async def _until_served(self, before: list[int]) -> None:
        async def is_served() -> bool:
            return self._load.all_served_since(before)

        await self.until(is_served, SERVED_S, "a majority is up, but a client is not served")

    async def _repair(self) -> None:
        cluster = self._cluster
        before = self._load.answers()
        cluster.thaw(*cluster.members)
        cluster.start()
        waiting = set(cluster.members)

        async def is_ready() -> bool:
            for node in sorted(waiting):
                if await self._in_thread(cluster.apis[node].not_ready) is None:
                    waiting.discard(node)
                elif cluster.state(node) == GONE:
                    raise Stuck(f"node {node} has ended by itself:\n{cluster.log_end(node)}")
            return not waiting

        await self.until(is_ready, READY_S, "not all nodes are ready", READY_POLL_S)
        await self._until_served(before)


WEIGHTS: Final[Mapping[str, int]] = {
    "kill leader": 5,
    "kill follower": 4,
    "kill majority": 2,
    "kill all": 2,
    "freeze leader": 1,
    "freeze follower": 2,
    "blink leader": 2,
    "restart leader": 3,
    "restart follower": 3,
}
"""How often each kind of fault is drawn. What waits for the detector's delay is rare, so that a round is short."""

LEADERLESS_WEIGHTS: Final[Mapping[str, int]] = {
    "kill replica": 8,
    "kill majority": 2,
    "kill all": 2,
    "freeze replica": 2,
    "blink replica": 2,
    "restart replica": 5,
}
"""The same where no node is more than another."""
