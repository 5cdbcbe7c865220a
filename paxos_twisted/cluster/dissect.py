"""The anatomy of a failover that was just made: what clients and nodes of a local cluster tell about it."""

import time
from collections.abc import Sequence

import msgspec

from paxos_twisted.anatomy.facts import Event, Facts, Fault, Wait
from paxos_twisted.anatomy.sources import Clocks, events_of_collected, merged, offsets
from paxos_twisted.anatomy.split import Anatomy, NoFailover, split
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.ctl.events import collect


def events_of(cluster: LocalCluster) -> tuple[tuple[Event, ...], int]:
    """What all running nodes remember, by our monotonic clock; and by how many nanoseconds that may be wrong."""
    told = msgspec.to_builtins(collect(cluster.apis))
    offsets_ns, uncertainty_ns = offsets(told)
    # One machine, one clock: what is measured between nodes is the time that answers take.
    clocks = Clocks(time.time_ns(), time.monotonic_ns())
    assert all(abs(offset_ns) <= 2 * uncertainty_ns + 1_000_000 for offset_ns in offsets_ns.values())
    return merged(events_of_collected(told, clocks)), 0


def dissect(cluster: LocalCluster, fault: Fault | None, waits: Sequence[Wait]) -> list[Anatomy]:
    """The anatomy of each client's wait; of none, if leadership did not move. Asks all nodes."""
    events, uncertainty_ns = events_of(cluster)
    addresses = {address: int(node) for node, address in cluster.config.addresses.items()}
    found = []
    for wait in waits:
        try:
            found.append(split(Facts(wait, events, fault, uncertainty_ns, addresses)))
        except NoFailover:
            continue
    return found
