"""Statuses of nodes, as tests need them."""

from typing import Any

from paxos_twisted.ctl.node_api import Commands, NodeError, NodeStatus, NodeUnreachable, PeerStatus, StateHash
from paxos_twisted.types import NodeId

Statuses = dict[NodeId, NodeStatus | NodeError]

DEAD = NodeUnreachable("127.0.0.1:7203: nobody listens there")


def status(node: int, slots: int = 10, digest: str = "abcdef0123456789", **more: Any) -> NodeStatus:
    """A healthy follower of node 1 (or node 1, which leads) that has applied `slots` commands."""
    values: dict[str, Any] = {
        "cluster": "test",
        "node": node,
        "engine": "multipaxos",
        "application": "bank",
        "role": "leader" if node == 1 else "follower",
        "leader": 1,
        "round": 1001,
        "adu": slots - 1,
        "applied": slots - 1,
        "ready": True,
        "commands": Commands(applied=slots),
        "state_hash": StateHash(slots - 1, digest),
        "peers": {str(peer): PeerStatus(up=True, rtt_ms=0.5) for peer in (1, 2, 3) if peer != node},
    }
    return NodeStatus(**(values | more))


def cluster(**changed: NodeStatus | NodeError) -> Statuses:
    """Three healthy nodes, of which some are replaced: n1=, n2=, n3=."""
    return {NodeId(node): changed.get(f"n{node}", status(node)) for node in (1, 2, 3)}
