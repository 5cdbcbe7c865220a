"""The simulated network: one stream in each direction between any two nodes, as the real transport makes them.

Messages are encoded when they are sent and decoded when they arrive, with the codec of the wire. A stream is first in,
first out; latency moves the whole stream. Above the streams acts the message-fault layer of live nodes
(`paxos_twisted.net.faults`), below them the cuts (a direction that swallows, or holds back, whatever arrives).

What a node hears about a peer is what TCP would tell it:

* the peer's process dies: LOST after one way, then REFUSED, because its machine answers that nobody listens;
* the peer's machine loses power, freezes, or the path is cut: nothing at all, until the peer's machine is back and
  answers old packets with a reset (LOST), or until the connection times out (LOST), and then UP again.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from paxos_twisted.core.engine import LinkState
from paxos_twisted.net.faults import FaultLayer
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.types import NodeId

RECONNECT_MS = 20
"""First pause before another attempt to connect; doubles up to RECONNECT_MS_MAX."""

RECONNECT_MS_MAX = 320

CONNECTION_TIMEOUT_MS = 1500
"""A connection over which nothing comes back for this long is given up."""


class Host(Protocol):
    """What the network must know of a node."""

    node: NodeId
    is_running: bool
    """The process is there (it may be frozen)."""
    is_frozen: bool
    is_powered: bool
    """The machine is there: its kernel answers."""
    incarnation: int
    """Grows with every start of the process."""

    def receive(self, src: NodeId, payload: bytes) -> None:
        """A message has come."""
        ...

    def link_changed(self, peer: NodeId, state: LinkState) -> None:
        """The stream to `peer` changed."""
        ...

    def welcomes(self, peer: Any) -> bool:
        """Whether the handshake of a stream from `peer` succeeds here."""
        ...


class Link:
    """The stream from `src` to `dst`."""

    __slots__ = ("cut", "dst", "dst_incarnation", "held", "is_up", "last_ms", "pause_ms", "retry", "src")

    def __init__(self, src: Host, dst: Host) -> None:
        self.src = src
        self.dst = dst
        self.is_up = False
        self.dst_incarnation = 0
        self.last_ms = 0
        """When the newest message in order arrives."""
        self.cut: str | None = None
        """None, "drop" (what arrives is lost) or "hold" (it arrives when the cut ends, as TCP repeats it)."""
        self.held: list[bytes] = []
        self.pause_ms = RECONNECT_MS
        self.retry = 0
        """Number of the newest plan to reconnect; older plans are void."""


class Filter(Protocol):
    """A scenario's own look at messages on their way: decides each one's fate."""

    def __call__(self, src: NodeId, dst: NodeId, message: Any) -> int | None:
        """Return an extra delay in ms that takes the message out of its order, 0: as usual, or None: lose it."""
        ...


class SimNetwork:
    """All links. `send` is what a node's driver calls through its shell."""

    def __init__(self, scheduler: Scheduler, rng: random.Random, latency_ms: tuple[int, int]) -> None:
        self.scheduler = scheduler
        self._random = rng.random
        self.latency_ms, self._spread = latency_ms[0], latency_ms[1] - latency_ms[0] + 1
        self.links: dict[tuple[NodeId, NodeId], Link] = {}
        self.hosts: dict[NodeId, Host] = {}
        self.faults: FaultLayer | None = None
        self.filter: Filter | None = None
        self.tamper: Callable[[NodeId, NodeId, Any], Any] | None = None
        """Puts another message in the place of one (a scenario plays a broken peer)."""
        self.on_trace: Callable[[str], None] | None = None
        self.sent = 0
        self.dropped = 0
        self._encode = msgspec.msgpack.Encoder().encode

    def add_hosts(self, hosts: Mapping[NodeId, Host]) -> None:
        """Make the links between all hosts. Called once."""
        self.hosts.update(hosts)
        for src in hosts.values():
            for dst in hosts.values():
                if src is not dst:
                    self.links[src.node, dst.node] = Link(src, dst)

    # ---- messages

    def send(self, src: NodeId, receivers: tuple[NodeId, ...], message: Any) -> None:
        """Send `message` to each receiver whose stream is up; to the others it is lost, as in the real transport."""
        payload = self._encode(message)
        for dst in receivers:
            if self.tamper is None:
                self._send_payload(src, dst, message, payload)
            else:
                other = self.tamper(src, dst, message)
                self._send_payload(src, dst, other, self._encode(other))

    def _send_payload(self, src: NodeId, dst: NodeId, message: Any, payload: bytes) -> None:
        link = self.links[src, dst]
        self.sent += 1
        extra = 0 if self.filter is None else self.filter(src, dst, message)
        if not link.is_up or extra is None:
            self.dropped += 1
            if self.on_trace is not None:
                self.on_trace(f"{src}->{dst} lost {message!r}")
            return
        if self.on_trace is not None:
            self.on_trace(f"{src}->{dst} send {message!r}")
        if extra:
            self.scheduler.after(self._latency() + extra, partial(self._arrive, link, payload, 0))
        elif self.faults is None:
            self._send_in_order(link, payload)
        else:
            self._send_with_faults(link, self.faults.plan(src, dst, message, self.scheduler.now_ms), payload)

    def _latency(self) -> int:
        return self.latency_ms + int(self._random() * self._spread)

    def _send_in_order(self, link: Link, payload: bytes) -> None:
        time = self.scheduler.now_ms + self.latency_ms + int(self._random() * self._spread)
        time = max(time, link.last_ms)
        link.last_ms = time
        self.scheduler.at(time, partial(self._arrive, link, payload, link.dst_incarnation))

    def _send_with_faults(self, link: Link, plan: tuple[int, ...], payload: bytes) -> None:
        if not plan:
            self.dropped += 1
            if self.on_trace is not None:
                self.on_trace(f"{link.src.node}->{link.dst.node} dropped the message above")
        for delay_ms in plan:
            if delay_ms:
                self.scheduler.after(delay_ms, partial(self._send_late, link, payload, link.src.incarnation))
            else:
                self._send_in_order(link, payload)

    def _send_late(self, link: Link, payload: bytes, incarnation: int) -> None:
        """The fault layer, a part of the process `incarnation`, lets a message go."""
        if link.is_up and link.src.is_running and link.src.incarnation == incarnation:
            self._send_in_order(link, payload)
        else:
            self.dropped += 1

    def _arrive(self, link: Link, payload: bytes, incarnation: int) -> None:
        """`incarnation` 0: made late by a scenario's filter; any later process may get it."""
        dst = link.dst
        if link.cut is not None:
            if link.cut == "hold":
                link.held.append(payload)
            else:
                self.dropped += 1
        elif not dst.is_running or (incarnation and incarnation != dst.incarnation):
            self.dropped += 1
        else:
            dst.receive(link.src.node, payload)

    # ---- cuts

    def cut(self, src: NodeId, dst: NodeId, mode: str = "drop") -> None:
        """Cut one direction. Both ends notice nothing but silence, until the connection times out."""
        link = self.links[src, dst]
        link.cut = mode
        if link.is_up:
            self._plan(link, CONNECTION_TIMEOUT_MS, self._time_out)

    def mend(self, src: NodeId, dst: NodeId) -> None:
        """End a cut. What was held back arrives in a burst, in order."""
        link = self.links[src, dst]
        if link.cut is None:
            return
        link.cut = None
        held, link.held = link.held, []
        for payload in held:
            self._send_in_order(link, payload)
        if not link.is_up and link.src.is_running:
            link.pause_ms = RECONNECT_MS
            self._plan(link, RECONNECT_MS, self._connect)

    def is_cut(self, src: NodeId, dst: NodeId) -> bool:
        """Whether this direction is cut."""
        return self.links[src, dst].cut is not None

    # ---- connections

    def started(self, node: NodeId) -> None:
        """The process of `node` has started: it connects to all, and all others notice that its machine answers."""
        for (src, dst), link in self.links.items():
            if src == node:
                link.is_up = False
                link.pause_ms = RECONNECT_MS
                self._plan(link, 1, self._connect)
            elif dst == node and link.src.is_running:
                link.pause_ms = RECONNECT_MS
                if link.is_up:  # the machine was off: the answer to an old packet is a reset
                    self._plan(link, self.latency_ms, self._lost)
                else:
                    self._plan(link, int(self._random() * RECONNECT_MS_MAX), self._connect)

    def stopped(self, node: NodeId) -> None:
        """The process of `node` has ended: its own streams end; a machine that lives tells the others."""
        is_powered = self.hosts[node].is_powered
        for (src, dst), link in self.links.items():
            if src == node:
                link.is_up = False
                link.retry += 1
            elif dst == node and link.is_up:
                if is_powered:
                    self._plan(link, self._latency(), self._lost)
                else:
                    self._plan(link, CONNECTION_TIMEOUT_MS, self._time_out)

    def _plan(self, link: Link, delay_ms: int, action: Callable[[Link, int], None]) -> None:
        link.retry += 1
        self.scheduler.after(delay_ms, partial(action, link, link.retry))

    def _is_path_open(self, link: Link) -> bool:
        there, back = link, self.links[link.dst.node, link.src.node]
        return there.cut is None and back.cut is None and link.dst.is_powered

    def _lost(self, link: Link, plan: int) -> None:
        if plan != link.retry or not link.src.is_running:
            return
        if not self._is_path_open(link):
            self._plan(link, CONNECTION_TIMEOUT_MS, self._time_out)
            return
        if link.is_up:
            link.is_up = False
            self._tell(link, LinkState.LOST)
        self._plan(link, RECONNECT_MS // 4, self._connect)

    def _time_out(self, link: Link, plan: int) -> None:
        if plan != link.retry or not link.src.is_running:
            return
        if self._is_path_open(link) and link.dst.is_running and link.dst.incarnation == link.dst_incarnation:
            return  # mended in time: TCP has repeated what was lost
        if link.is_up:
            link.is_up = False
            self._tell(link, LinkState.LOST)
        self._plan(link, RECONNECT_MS, self._connect)

    def _connect(self, link: Link, plan: int) -> None:
        if plan != link.retry or link.is_up or not link.src.is_running:
            return
        link.pause_ms = min(2 * link.pause_ms, RECONNECT_MS_MAX)
        if self._is_path_open(link):
            if not link.dst.is_running:
                self._tell(link, LinkState.REFUSED)
            elif not link.dst.is_frozen and link.dst.welcomes(link.src):
                link.is_up = True
                link.dst_incarnation = link.dst.incarnation
                self._tell(link, LinkState.UP)
                return
        self._plan(link, link.pause_ms, self._connect)

    def _tell(self, link: Link, state: LinkState) -> None:
        if self.on_trace is not None:
            self.on_trace(f"{link.src.node}->{link.dst.node} link {state.value}")
        link.src.link_changed(link.dst.node, state)
