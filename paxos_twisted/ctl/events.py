"""What happened at all nodes lately, on one clock: ours. `paxosctl events`, and what failover reports are made from.

Machines' clocks differ. How much is measured here, as NTP does it: a node says what time it is; it said so between our
question and its answer. The quickest of several rounds bounds the difference best, to half its duration.
"""

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from paxos_twisted.ctl.node_api import Happening, NodeApi, NodeError, ask_all
from paxos_twisted.types import NodeId

ROUNDS: Final = 8


class Clock(msgspec.Struct, frozen=True):
    """A machine's clock, compared with ours."""

    offset_ns: int
    """What it shows more than ours."""
    uncertainty_ns: int
    """The offset may be wrong by this much, either way."""


class NodeEvents(msgspec.Struct, frozen=True):
    """What a node remembers, by its own clock."""

    clock: Clock
    events: list[Happening]


class Collected(msgspec.Struct, frozen=True):
    """The events of all nodes that answered, and who asked when by which clock."""

    host: str
    unix_ns: int
    monotonic_ns: int
    """The same moment as `unix_ns`, by the clock that histories of clients are written with."""
    nodes: dict[str, NodeEvents]
    errors: dict[str, str]


def compare_clocks(api: NodeApi, rounds: int = ROUNDS) -> Clock:
    """Ask a node for the time, several times.

    Raises:
        NodeError: it does not answer.
    """
    best: Clock | None = None
    for _ in range(rounds):
        before = time.time_ns()
        told = api.clock_ns()
        after = time.time_ns()
        half = (after - before) // 2
        if best is None or half < best.uncertainty_ns:
            best = Clock(told - before - half, half)
    assert best is not None
    return best


def collect(apis: Mapping[NodeId, NodeApi]) -> Collected:
    """Ask all nodes. Those that do not answer stand among the errors."""

    def ask(api: NodeApi) -> NodeEvents:
        return NodeEvents(compare_clocks(api), api.events())

    asked = ask_all(apis.values(), ask)
    return Collected(
        host=socket.gethostname(),
        unix_ns=time.time_ns(),
        monotonic_ns=time.monotonic_ns(),
        nodes={str(node): told for node, told in asked.items() if isinstance(told, NodeEvents)},
        errors={str(node): str(told) for node, told in asked.items() if isinstance(told, NodeError)},
    )


class Line(msgspec.Struct, frozen=True):
    """An event of some node, by our clock."""

    time_ns: int
    node: int
    what: Happening


def merged(collected: Collected) -> list[Line]:
    """The events of all nodes in the order of time."""
    lines = [
        Line(event.time_ns - told.clock.offset_ns, int(node), event)
        for node, told in collected.nodes.items()
        for event in told.events
    ]
    return sorted(lines, key=lambda line: (line.time_ns, line.node))


WORDS: Final = {
    "started": "takes part from now on",
    "link_up": "link to node {peer}",
    "link_lost": "the link to node {peer} is lost",
    "link_refused": "node {peer} refuses connections: its process is dead",
    "suspected": "suspects node {peer} ({cause})",
    "restored": "hears node {peer} again",
    "campaign": "asks who would follow it",
    "phase1": "begins phase 1 of round {rnd}",
    "phase1_failed": "its phase 1 of round {rnd} failed ({cause})",
    "promised": "a quorum has promised round {rnd}",
    "filled": "everything found by round {rnd} is decided",
    "first_commit": "the first command of a client is decided",
    "stepped_down": "no longer leads round {rnd} ({cause})",
    "diverged": "node {peer} has ANOTHER STATE",
}
"""Events as sentences; `leader` has three forms."""


def sentence(event: Happening, node: int) -> str:
    """An event for people."""
    if event.event == "leader":
        if event.peer == node:
            return f"leads, in round {event.rnd}"
        return f"no leader is known ({event.cause})" if event.peer == -1 else f"follows node {event.peer}"
    return WORDS.get(event.event, event.event).format(peer=event.peer, rnd=event.rnd, cause=event.cause)


def table(lines: Iterable[Line], collected: Collected) -> Table:
    """All events below each other, with the time since the one before."""
    shown = Table(box=None, pad_edge=False, caption=_about_clocks(collected), caption_justify="left")
    for name in ("time", "ms later", "node", "event"):
        shown.add_column(name, justify="right" if name in ("ms later", "node") else "left")
    before: int | None = None
    for line in lines:
        seconds, rest_ns = divmod(line.time_ns, 1_000_000_000)
        clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest_ns // 1000:06d}"
        later = "" if before is None else f"{(line.time_ns - before) / 1e6:,.1f}"
        shown.add_row(clock, later, str(line.node), Text(sentence(line.what, line.node)))
        before = line.time_ns
    return shown


def _about_clocks(collected: Collected) -> str:
    told = [
        f"node {node} {nodes.clock.offset_ns / 1e6:+.2f} ms (± {nodes.clock.uncertainty_ns / 1e6:.2f})"
        for node, nodes in collected.nodes.items()
    ]
    return "Times are of this machine's clock. The nodes' clocks differ from it by: " + ", ".join(told) if told else ""
