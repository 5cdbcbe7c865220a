"""Faults drawn from a seed: what breaks, when, for how long; and the healing of all of it at the end."""

import random
from collections.abc import Callable
from functools import partial

import msgspec

from paxos_twisted.net.faults import Rule
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.types import NodeId


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Relative frequencies of the faults of one run; 0: never."""

    kill: float = 2.0
    power: float = 1.0
    power_all: float = 0.3
    stop: float = 0.8
    """A clean stop, as on a rolling restart."""
    handover: float = 0.4
    """The operator asks a leader to hand over, or a node for a snapshot."""
    freeze: float = 1.5
    stall: float = 1.0
    partition: float = 1.5
    one_way: float = 1.0
    star: float = 0.3
    limp: float = 2.0
    """The leader reaches only some of the others for a moment, and is then lost: votes that are no quorum, holes."""
    coups: float = 0.7
    """For a while every new leader limps with its first proposals: several rounds leave votes for the same slots."""
    messages: float = 1.5
    clock: float = 0.5
    slow_disk: float = 0.6
    full_disk: float = 0.4
    fsync_error: float = 0.3
    rot: float = 0.0
    """Rot is drawn for at most one node of a run, so that the cluster can still heal it."""
    amnesia: float = 0.0
    """One node of a run comes back with an empty disk, again and again."""

    def drawn(self, rng: random.Random) -> "Mix":
        """A mix in which each fault is switched on or off, so that runs differ in kind and not only in order."""
        return msgspec.structs.replace(
            self,
            **{
                name: getattr(self, name) * (0.0 if rng.random() < 0.45 else 0.5 + rng.random())
                for name in self.__struct_fields__
            },
        )


class Nemesis:
    """Breaks things one after the other while the cluster works.

    Crashes hit any number of nodes, at worst all of them: safety must hold then too, and everything is healed before
    the cluster must answer.
    """

    def __init__(self, cluster: Cluster, mix: Mix, rng: random.Random, pause_ms: int, until_ms: int) -> None:
        self.cluster = cluster
        self.until_ms = until_ms
        self.pause_ms = pause_ms
        self.faults = 0
        self._rng = rng
        self._scheduler = cluster.scheduler
        actions: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "power": self._power,
            "power_all": self._power_all,
            "stop": self._stop,
            "handover": self._handover,
            "freeze": self._freeze,
            "stall": self._stall,
            "partition": self._partition,
            "one_way": self._one_way,
            "star": self._star,
            "limp": self._limp,
            "coups": self._coups,
            "messages": self._messages,
            "clock": self._clock,
            "slow_disk": self._slow_disk,
            "full_disk": self._full_disk,
            "fsync_error": self._fsync_error,
            "rot": self._rot,
            "amnesia": self._amnesia,
        }
        self._actions = [(getattr(mix, name), action) for name, action in actions.items() if getattr(mix, name)]
        self._total = sum(weight for weight, _ in self._actions)
        self._rotten: NodeId | None = None
        if self._actions:
            self._scheduler.after(self._pause(), self._strike)

    def _pause(self) -> int:
        return 10 + int(self._rng.random() * 2 * self.pause_ms)

    def _duration(self) -> int:
        """Mostly short, sometimes much longer than any time-out."""
        rand = self._rng.random
        return int((20 + 1500 * rand()) * (rand() if rand() < 0.6 else 1))

    def _strike(self) -> None:
        if self._scheduler.now_ms >= self.until_ms:
            return
        choice = self._rng.random() * self._total
        for weight, action in self._actions:
            choice -= weight
            if choice < 0:
                self.faults += 1
                action()
                break
        self._scheduler.after(self._pause(), self._strike)

    def _node(self) -> NodeId:
        """Any node; the one that leads more often than others."""
        cluster = self.cluster
        leader = cluster.leader()
        if leader is not None and self._rng.random() < 0.4:
            return leader
        return cluster.ids[int(self._rng.random() * len(cluster.ids))]

    def _later(self, action: Callable[[], object]) -> None:
        self._scheduler.after(self._duration(), action)

    # ---- crashes and pauses

    def _kill(self) -> None:
        node = self._node()
        self.cluster.kill(node)
        self._later(lambda: self.cluster.restart(node))

    def _power(self) -> None:
        node = self._node()
        self.cluster.cut_power(node)
        self._later(lambda: self.cluster.restart(node))

    def _power_all(self) -> None:
        for node in self.cluster.ids:
            self.cluster.cut_power(node)
            self._later(partial(self.cluster.restart, node))

    def _stop(self) -> None:
        node = self._node()
        self.cluster.stop(node)
        self._later(lambda: self.cluster.restart(node))

    def _handover(self) -> None:
        machine = self.cluster.nodes[self._node()]
        if self._rng.random() < 0.7:
            machine.ask(lambda driver: driver.engine.resign("asked"))
        else:
            machine.ask(lambda driver: driver.take_snapshot())

    def _freeze(self) -> None:
        node = self._node()
        self.cluster.freeze(node)
        self._later(lambda: self.cluster.thaw(node))

    def _stall(self) -> None:
        """The event loop stands still for a moment: garbage collection, a busy machine."""
        node = self._node()
        self.cluster.freeze(node)
        self._scheduler.after(10 + int(self._rng.random() * 150), lambda: self.cluster.thaw(node))

    # ---- the network

    def _sides(self) -> tuple[list[NodeId], list[NodeId]]:
        ids = list(self.cluster.ids)
        self._rng.shuffle(ids)
        size = 1 + int(self._rng.random() * (len(ids) - 1))
        return ids[:size], ids[size:]

    def _cut_mode(self) -> str:
        return "hold" if self._rng.random() < 0.4 else "drop"

    @staticmethod
    def _mend(pairs: list[tuple[NodeId, NodeId]], mend: Callable[[NodeId, NodeId], None]) -> None:
        for a, b in pairs:
            mend(a, b)

    def _partition(self) -> None:
        here, there = self._sides()
        mode = self._cut_mode()
        pairs = [(a, b) for a in here for b in there]
        for a, b in pairs:
            self.cluster.cut_both(a, b, mode)
        self._later(lambda: self._mend(pairs, self.cluster.mend_both))

    def _one_way(self) -> None:
        here, there = self._sides()
        mode = self._cut_mode()
        pairs = [(a, b) for a in here for b in there]
        for a, b in pairs:
            self.cluster.cut(a, b, mode)
        self._later(lambda: self._mend(pairs, self.cluster.mend))

    def _star(self) -> None:
        hub = self._node()
        others = [node for node in self.cluster.ids if node != hub]
        pairs = [(a, b) for a in others for b in others if a < b]
        for a, b in pairs:
            self.cluster.cut_both(a, b)
        self._later(lambda: self._mend(pairs, self.cluster.mend_both))

    def _limp(self) -> None:
        leader, rand = self.cluster.leader(), self._rng.random
        if not self.cluster.subject.has_leader:
            leader = self._node()
        if leader is not None:
            self._limp_for(leader, 5 + int(rand() * 60), self._duration())

    def _limp_for(self, leader: NodeId, limp_ms: int, lost_ms: int) -> None:
        cluster, rand = self.cluster, self._rng.random
        kinds = cluster.subject.proposals
        others = [node for node in cluster.ids if node != leader]
        self._rng.shuffle(others)
        if rand() < 0.6:  # a few never hear of what is proposed now
            unheard = others[int(rand() * len(others)) :]
            rules = [Rule(src=leader, dst=node, kinds=kinds, partition=True) for node in unheard]
        else:  # everybody misses something else
            rules = [Rule(src=leader, dst=node, kinds=kinds, loss=0.6) for node in others]
        for rule in rules:
            cluster.add_rule(rule)
        fate = rand()

        def lose() -> None:
            for rule in rules:
                cluster.remove_rule(rule)
            if fate < 0.5:
                cluster.kill(leader)
                self._scheduler.after(lost_ms, lambda: cluster.restart(leader))
            elif fate < 0.7:
                cluster.freeze(leader)
                self._scheduler.after(lost_ms, lambda: cluster.thaw(leader))
            else:
                cluster.isolate(leader, self._cut_mode())
                self._scheduler.after(lost_ms, lambda: cluster.rejoin(leader))

        self._scheduler.after(limp_ms, lose)

    def _coups(self) -> None:
        rand = self._rng.random
        stop_ms = min(self._scheduler.now_ms + 300 + int(rand() * 1200), self.until_ms)
        seen: set[int] = set()

        def watch() -> None:
            if self._scheduler.now_ms >= stop_ms:
                return
            leader = self.cluster.leader()
            engine = None if leader is None else self.cluster.nodes[leader].engine
            if leader is not None and engine is not None and self.cluster.subject.term(engine) not in seen:
                seen.add(self.cluster.subject.term(engine))
                self._limp_for(leader, 3 + int(rand() * 25), 30 + int(rand() * 400))
            self._scheduler.after(2, watch)

        watch()

    def _messages(self) -> None:
        """Loss, copies, delays and new orders, for all messages or for those of one direction."""
        rand = self._rng.random
        all_kinds = self.cluster.subject.message_kinds
        everywhere = rand() < 0.5
        here, there = self._sides()
        kinds = all_kinds[int(rand() * len(all_kinds))] if rand() < 0.4 else ()
        rule = Rule(
            kinds=kinds,
            src="*" if everywhere else here[0],
            dst="*" if everywhere else there[0],
            loss=round(rand() * 0.3, 2) if rand() < 0.6 else 0.0,
            delay_ms=int(rand() * (400 if kinds else 60)) if rand() < 0.4 else 0,
            jitter_ms=int(rand() * 60) if rand() < 0.4 else 0,
            duplicate=round(rand() * 0.5, 2) if rand() < 0.5 else 0.0,
            duplicate_ms=int(rand() * 800),
            reorder=round(rand() * 0.5, 2) if rand() < 0.5 else 0.0,
            reorder_ms=int(rand() * 300),
        )
        self.cluster.add_rule(rule)
        self._later(lambda: self.cluster.remove_rule(rule))

    def _clock(self) -> None:
        node = self._node()
        self.cluster.set_clock_rate(node, 0.5 + 1.5 * self._rng.random())
        self._later(lambda: self.cluster.set_clock_rate(node, 1.0))

    # ---- the disk

    def _slow_disk(self) -> None:
        disk = self.cluster.disk(self._node())
        disk.factor = 10 + int(self._rng.random() * 90)

        def heal() -> None:
            disk.factor = 1

        self._later(heal)

    def _full_disk(self) -> None:
        disk = self.cluster.disk(self._node())
        disk.is_full = True

        def heal() -> None:
            disk.is_full = False

        self._later(heal)

    def _fsync_error(self) -> None:
        node = self._node()
        self.cluster.disk(node).fails_next = True
        self._later(lambda: self.cluster.restart(node))

    def _rot(self) -> None:
        node = self._node() if self._rotten is None else self._rotten
        self._rotten = node
        self.cluster.allowed_stops.add(node)  # where a proof has rotted, too, it must refuse to start
        self.cluster.disk(node).rot(self._rng)
        self.cluster.kill(node)
        self._later(lambda: self.cluster.restart(node))

    def _amnesia(self) -> None:
        node = self._node() if self._rotten is None else self._rotten
        links = self.cluster.network.links
        if not all(links[node, other].dst_incarnation for other in self.cluster.ids if other != node):
            return  # somebody has never met this node, and could not tell another data directory from its first one
        self._rotten = node
        self.cluster.lose_disk(node)
        self._later(lambda: self.cluster.restart(node))
