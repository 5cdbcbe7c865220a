"""Where clients begin: the first node, all nodes in turns, or the nearest one. From there a failure moves them on.

With an engine that has a leader every way ends at the leader: the other nodes redirect. A leaderless engine serves
clients at every node, and this choice decides who serves whom.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from paxos_twisted.wire.client import NoLeader, Redirect
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello
from paxos_twisted_client.codec import Codec
from paxos_twisted_client.connection import Answered, NodeConnection
from paxos_twisted_client.endpoints import Address, tcp_endpoint
from paxos_twisted_client.options import Patience
from paxos_twisted_client.reactor import Clock, Endpoint

FIRST: Final = "first"
ROUND_ROBIN: Final = "round-robin"
NEAREST: Final = "nearest"
TARGETS: Final = (FIRST, ROUND_ROBIN, NEAREST)

PROBES: Final = 3
"""Greetings by which a node's distance is measured. The shortest counts: a busy moment says nothing about distance."""


def starts(target: str, addresses: Sequence[Address]) -> list[tuple[Address, ...]]:
    """The orders in which the pools of one client try the addresses: one pool, or one for each node."""
    if target != ROUND_ROBIN:
        return [tuple(addresses)]
    return [(*addresses[at:], *addresses[:at]) for at in range(len(addresses))]


class Probe:
    """Dials one node a few times and measures how long its welcome takes. The owner of these connections."""

    sessions: Mapping[int, Answered] = {}

    def __init__(self, dial: "Callable[[Probe], NodeConnection]", now_ns: Callable[[], int]) -> None:
        self.shortest_ns: int | None = None
        self.done: Deferred[None] = Deferred()
        self._dial = dial
        self._now_ns = now_ns
        self._left = PROBES
        self._started_ns = 0
        self._again()

    def on_open(self, connection: NodeConnection, word: Redirect | NoLeader | None) -> None:
        """Welcomed. Whether it leads is another question."""
        taken_ns = self._now_ns() - self._started_ns
        self.shortest_ns = taken_ns if self.shortest_ns is None else min(taken_ns, self.shortest_ns)
        connection.close().addCallback(lambda _: self._again())

    def on_lost(self, connection: NodeConnection, cause: str, text: str, waited_s: float) -> None:
        """Not welcomed: one attempt is enough to know."""
        self.done.callback(None)

    def on_reply(self, connection: NodeConnection, reply: Any) -> None:
        """A word about the leader that comes late."""

    def on_events(self, connection: NodeConnection, events: Any) -> None:
        """Nothing is followed."""

    def on_writable(self, connection: NodeConnection) -> None:
        """Nothing waits."""

    def _again(self) -> None:
        if not self._left:
            self.done.callback(None)
            return
        self._left -= 1
        self._started_ns = self._now_ns()
        self._dial(self)


async def by_distance(
    reactor: Clock,
    addresses: Sequence[Address],
    *,
    cluster: str,
    application: str,
    patience: Patience,
    now_ns: Callable[[], int],
    endpoint: Callable[[Address], Endpoint] | None = None,
) -> tuple[Address, ...]:
    """The addresses, those first that welcome us soonest. Nodes that do not come last, in their order."""
    dials = endpoint or (lambda address: tcp_endpoint(reactor, address))
    codec = Codec(application)
    hello = ClientHello(PROTOCOL_VERSION, cluster, application, 0)

    def dial(address: Address) -> Callable[[Probe], NodeConnection]:
        def one(probe: Probe) -> NodeConnection:
            connection = NodeConnection(
                reactor, address, probe, codec=codec, hello=hello, patience=patience, now_ns=now_ns
            )
            connection.dial(dials(address))
            return connection

        return one

    probes = [Probe(dial(address), now_ns) for address in addresses]
    await DeferredList([probe.done for probe in probes])
    times = {address: probe.shortest_ns for address, probe in zip(addresses, probes, strict=True)}
    return tuple(sorted(addresses, key=lambda address: _distance(times[address])))


def _distance(shortest_ns: int | None) -> tuple[bool, int]:
    return shortest_ns is None, shortest_ns or 0
