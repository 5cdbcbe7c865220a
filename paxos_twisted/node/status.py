"""What a node says of itself: /status, /readyz, and the gauges of /metrics."""

import os
from typing import Any

import paxos_twisted
from paxos_twisted.net.faults import format_rule
from paxos_twisted.node.assemble import Parts
from paxos_twisted.node.config import Config
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.node.observe import Events
from paxos_twisted.node.state_hash import StateHash
from paxos_twisted.storage.sqlite_store import SqliteStore
from paxos_twisted.types import NO_NODE, NO_ROUND, NO_SLOT


def not_ready(parts: Parts | None) -> str | None:
    """Why the node does not serve, or None."""
    if parts is None:
        return "the node reads its log"
    driver, links = parts.driver, parts.links
    rejections = links.rejections()
    if rejections and not any(link.is_up for link in links.links.values()):
        return rejections[0]
    if driver.leader == NO_NODE:
        return "no leader is known"
    if not driver.engine.is_ready:
        return "the node has not caught up with the others"
    return None


def status(
    *,
    config: Config,
    uptime_s: float,
    parts: Parts,
    store: SqliteStore,
    events: Events,
    findings: list[str],
    state_hash: StateHash,
) -> dict[str, Any]:
    """The JSON of /status: what driver and engine say of themselves, and what only the shell knows."""
    driver, links, clients = parts.driver, parts.links, parts.clients
    found = driver.status()
    peers: dict[str, dict[str, Any]] = found.get("peers", {})
    found["peers"] = {
        str(peer): {
            "suspected": False,
            "adu": NO_SLOT,
            **peers.get(str(peer), {}),
            "up": link.is_up,
            "rtt_ms": link.rtt_ms(),
            "dropped": sum(link.dropped.values()),
        }
        for peer, link in links.links.items()
    }
    found["commands"]["from_snapshot"] = driver.state.from_snapshot
    return {
        "cluster": config.shared.cluster,
        "node": driver.node,
        "version": paxos_twisted.__version__,
        "pid": os.getpid(),
        "uptime_s": round(uptime_s, 3),
        **found,
        "leader_address": found["leader_address"] or "",
        "ready": not_ready(parts) is None,
        "disk": {
            "state": driver.disk_state.value,
            "write_no": driver.write_no,
            "durable_write_no": driver.durable_write_no,
            "bytes": store.metrics.size_bytes + store.metrics.wal_bytes,
            "free_bytes": store.metrics.free_bytes,
        },
        "clients": len(clients.streams),
        "leader_changes": events.leader_changes,
        "state_hash": {"slot": state_hash.slot, "digest": state_hash.digest, "coverage": state_hash.coverage},
        "faults": None if links.faults is None else [format_rule(rule) for rule in links.faults.rules],
        "findings": [*findings, *links.rejections()],
    }


def refresh(metrics: Metrics, parts: Parts) -> None:
    """Set the gauges and counters that are cheaper to ask for than to keep. Called before each scrape."""
    driver, links, clients = parts.driver, parts.links, parts.clients
    node = driver.node
    engine: Any = driver.engine
    state = driver.state
    metrics.is_leader = int(driver.leader == node)
    metrics.known_leader_id = driver.leader
    metrics.round = _promised(engine)
    metrics.decided_slot = engine.adu
    metrics.applied_slot = state.applied
    metrics.first_slot = getattr(engine, "log_first", 0)
    metrics.slots_decided["command"] = state.commands_applied + state.duplicates
    metrics.slots_decided["noop"] = state.noops
    metrics.proposals_open = engine.waiting
    metrics.buffered_decisions = engine.status()["log"].get("buffered_slots", 0)
    metrics.sessions = len(state.sessions)
    metrics.snapshot_slot = NO_SLOT if driver.snapshot is None else driver.snapshot.slot
    metrics.client_connections = len(clients.streams)
    for reason, count in links.dropped().items():
        metrics.messages_dropped[reason] = count
    for peer, link in links.links.items():
        name = str(peer)
        metrics.peer_up[name] = int(link.is_up)
        metrics.peer_reconnects[name] = max(0, link.connects - 1)
        metrics.network_bytes[name, "sent"] = link.bytes_sent
        metrics.network_bytes[name, "received"] = links.bytes_received(peer)
        for kind, count in link.sent.items():
            metrics.messages_sent[name, kind.__name__] = count
        for kind, count in links.received[peer].items():
            metrics.messages_received[name, kind.__name__] = count


def refresh_disk(metrics: Metrics, store: SqliteStore) -> None:
    """The same for the store, which counts in its own thread."""
    stored = store.metrics
    metrics.wal_size = stored.size_bytes + stored.wal_bytes
    metrics.disk_free = stored.free_bytes
    metrics.wal_errors = stored.errors
    metrics.write_queue = store.queued_bytes
    durations = metrics.fsync_duration
    if len(durations.counts) == len(stored.commit_seconds):
        durations.counts[:] = stored.commit_seconds
        durations.sum = stored.commit_seconds_sum


def _promised(engine: Any) -> int:
    rnd: int = getattr(engine, "round", NO_ROUND)
    return getattr(getattr(engine, "acceptor", None), "rnd", rnd)
