"""Who may connect: the first frame of a connection against what this node is. Pure; the tables are in the tests."""

import hmac

import msgspec

from paxos_twisted.types import NodeId
from paxos_twisted.wire.handshake import (
    PROTOCOL_VERSION,
    ClientHello,
    Hello,
    PeerGreeting,
    PeerHello,
    PeerWelcome,
    Rejected,
)

_hello: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)
_peer_greeting: msgspec.msgpack.Decoder[PeerGreeting] = msgspec.msgpack.Decoder(PeerGreeting)


class GreetingError(Exception):
    """The first frame is none that we know. The text says why."""


class LocalNode(msgspec.Struct, frozen=True, kw_only=True):
    """What this node says of itself, and measures others by."""

    node: NodeId
    members: tuple[NodeId, ...]
    cluster: str
    application: str
    settings: str
    """Digest of what must be equal on all nodes."""
    identity: str
    """Random name of this node's data directory."""
    secret: str = ""
    """Proof that a peer belongs to the cluster; empty: none is asked for."""

    def hello_to(self, peer: NodeId, progress: int) -> PeerHello:
        """The greeting for a peer; `progress` is the number of the last record that is on disk."""
        return PeerHello(
            version=PROTOCOL_VERSION,
            cluster=self.cluster,
            sender=self.node,
            receiver=peer,
            settings=self.settings,
            identity=self.identity,
            progress=progress,
            credential=self.secret,
        )

    def check_peer(self, hello: PeerHello) -> Rejected | None:
        """Why this peer may not connect, or None. Its identity is still to be checked."""
        if hello.version != PROTOCOL_VERSION:
            return _version(hello.version, self.node)
        if hello.cluster != self.cluster:
            return _cluster(hello.cluster, self)
        if not self._is_secret(hello.credential):
            return Rejected("credential", f"node {self.node} does not accept the secret of node {hello.sender}")
        if hello.receiver != self.node:
            text = f"node {hello.sender} looks for node {hello.receiver} here, but this is node {self.node}"
            return Rejected("node", text)
        if hello.sender not in self.members or hello.sender == self.node:
            members = ", ".join(map(str, self.members))
            return Rejected("node", f"node {self.node} expects nodes {members} without itself, not node {hello.sender}")
        if hello.settings != self.settings:
            text = (
                f"nodes {hello.sender} and {self.node} have different settings (engine, application, alpha, timeouts, "
                "members …): give both the same cluster file"
            )
            return Rejected("settings", text)
        return None

    def check_client(self, hello: ClientHello) -> Rejected | None:
        """Why this client may not connect, or None. Clients need no credential, but a wrong one is refused."""
        if hello.version != PROTOCOL_VERSION:
            return _version(hello.version, self.node)
        if hello.cluster != self.cluster:
            return _cluster(hello.cluster, self)
        if hello.application != self.application:
            text = f"node {self.node} runs the application {self.application!r}, not {hello.application!r}"
            return Rejected("application", text)
        if hello.credential and not self._is_secret(hello.credential):
            return Rejected("credential", f"node {self.node} does not accept this credential")
        return None

    def _is_secret(self, credential: str) -> bool:
        # Compared in constant time, so that its duration tells nothing about where the first difference is.
        return not self.secret or hmac.compare_digest(self.secret.encode(), credential.encode())


def read_hello(payload: bytes) -> Hello:
    """Decode the first frame of a connection that somebody opened to us.

    Raises:
        GreetingError: it is no ClientHello and no PeerHello.
    """
    try:
        return _hello.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GreetingError(
            f"the first frame must be a greeting of protocol version {PROTOCOL_VERSION}: {error}"
        ) from None


def read_peer_greeting(payload: bytes, peer: NodeId) -> PeerWelcome | Rejected:
    """Decode a peer's answer to our PeerHello. An answer of another node or version comes back as a Rejected.

    Raises:
        GreetingError: it is no answer to a PeerHello.
    """
    try:
        greeting = _peer_greeting.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GreetingError(f"node {peer} answers our greeting with something unknown: {error}") from None
    if isinstance(greeting, PeerWelcome):
        if greeting.version != PROTOCOL_VERSION:
            return _version(greeting.version, peer)
        if greeting.receiver != peer:
            return Rejected("node", f"node {greeting.receiver} answers at the address of node {peer}")
    return greeting


def _version(theirs: int, node: NodeId) -> Rejected:
    return Rejected("version", f"node {node} speaks protocol version {PROTOCOL_VERSION}, not {theirs}")


def _cluster(theirs: str, local: LocalNode) -> Rejected:
    return Rejected("cluster", f"node {local.node} belongs to cluster {local.cluster!r}, not {theirs!r}")
