"""The first frame in each direction: who speaks, to which cluster, in which version, with which credential."""

from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.types import NodeId

PROTOCOL_VERSION = 1

Name = Annotated[str, Meta(max_length=128)]


class ClientHello(msgspec.Struct, array_like=True, tag=100, frozen=True):
    """A client opens its connection. Many sessions may share it: each request names its own."""

    version: int
    cluster: Name
    application: Name
    client: Annotated[int, Meta(ge=0)]
    """The session that connects; others may follow on the same connection."""
    credential: Annotated[str, Meta(max_length=256)] = ""


class ClientWelcome(msgspec.Struct, array_like=True, tag=101, frozen=True):
    """The node accepts the connection. `Redirect` or `NoLeader` with seq 0 follows when it does not lead."""

    version: int
    cluster: Name
    node: NodeId
    applied: int
    """Last applied slot: the `birth` of a session whose id is chosen now."""
    window: int
    """Requests of one session that may be unanswered."""


class PeerHello(msgspec.Struct, array_like=True, tag=102, frozen=True):
    """A node opens its stream to a peer. The stream carries messages in this direction only."""

    version: int
    cluster: Name
    sender: NodeId
    receiver: NodeId
    settings: Name
    """Digest of the settings that must be equal on all nodes (engine, application, alpha, members …)."""
    identity: Name
    """Random name of the sender's data directory, made at its first start."""
    progress: int
    """Number of the last record in the sender's log: an older disk shows by a smaller number."""
    credential: Annotated[str, Meta(max_length=256)] = ""


class PeerWelcome(msgspec.Struct, array_like=True, tag=103, frozen=True):
    """The peer accepts the stream."""

    version: int
    receiver: NodeId
    identity: Name


class Rejected(msgspec.Struct, array_like=True, tag=104, frozen=True):
    """The handshake failed, and why. The connection is closed behind it."""

    reason: Name
    """One word: version, cluster, application, node, settings, identity, credential, full."""
    text: str


Hello = ClientHello | PeerHello
ClientGreeting = ClientWelcome | Rejected
PeerGreeting = PeerWelcome | Rejected
