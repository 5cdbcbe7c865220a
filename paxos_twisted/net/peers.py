"""The peer links: to every other node a stream that we dial, and from every other node the stream that it dialled.

Data flows only from the one who dialled: messages of one node to another never overtake each other, and who sent a
message is known from the handshake. `PeerLinks` is the `Network` of the driver.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, get_args

import msgspec
from twisted.logger import Logger

from paxos_twisted.core.engine import LinkState
from paxos_twisted.limits import FRAME_BYTES_MAX, PEER_SILENCE_S
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.faults import FaultLayer
from paxos_twisted.net.framing import FrameConnection, notice_silence
from paxos_twisted.net.greeting import LocalNode
from paxos_twisted.net.held import HeldMessages
from paxos_twisted.net.link import PeerLink
from paxos_twisted.net.transport import Sockets
from paxos_twisted.types import NodeId
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, PeerHello, PeerWelcome, Rejected

_log = Logger()


class Trace(Protocol):
    """Whoever wants to see the messages."""

    def sent(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """A message leaves."""
        ...

    def received(self, sender: NodeId, message: Any) -> None:
        """A message has come."""
        ...


class PeerLinks:
    """Sends messages to peers and hands over theirs.

    Args:
        addresses: host and port of every other node.
        message_type: the union of all messages between nodes (msgspec structs with tags).
        receive: takes (sender, message). Must not raise.
        on_link: takes what a dialled stream went through. Must not raise.
        progress: number of the last record that is on disk here.
        guard: says what is wrong with a peer that comes with this data directory and this many records in it, or None.
        check_identity: the same, of a peer that has not said how many.
        rng: for the jitter of redials.
    """

    def __init__(
        self,
        *,
        local: LocalNode,
        addresses: Mapping[NodeId, tuple[str, int]],
        message_type: Any,
        sockets: Sockets,
        connections: Connections,
        receive: Callable[[NodeId, Any], None],
        on_link: Callable[[NodeId, LinkState], None],
        progress: Callable[[], int],
        guard: Callable[[NodeId, str, int], str | None],
        check_identity: Callable[[NodeId, str], str | None],
        rng: random.Random,
    ) -> None:
        self.local = local
        self.kinds: tuple[type[Any], ...] = get_args(message_type) or (message_type,)
        """The message types."""
        self.links = {
            peer: PeerLink(
                peer=peer,
                host=host,
                port=port,
                local=local,
                sockets=sockets,
                connections=connections,
                rng=rng,
                progress=progress,
                check_identity=check_identity,
                on_link=on_link,
                kinds=self.kinds,
            )
            for peer, (host, port) in sorted(addresses.items())
        }
        self.streams: dict[NodeId, PeerStream] = {}
        """The streams that peers have dialled."""
        self.received: dict[NodeId, dict[type[Any], int]] = {peer: dict.fromkeys(self.kinds, 0) for peer in self.links}
        self.faults: FaultLayer | None = None
        """None, normally. Set it with `set_faults`."""
        self.trace: Trace | None = None
        """Is shown every message, if somebody asked for it."""
        self.receive = receive
        self.decode = msgspec.msgpack.Decoder(message_type).decode
        self.have_sender = frozenset(kind for kind in self.kinds if "sender" in kind.__struct_fields__)
        self.connections = connections
        self._bytes_of_past_streams = dict.fromkeys(self.links, 0)
        self._refusals: dict[NodeId, str] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._guard = guard
        self._injected = 0  # messages dropped by fault layers that have been taken out
        self._held: HeldMessages[tuple[PeerLink, bytes, type[Any]]] = HeldMessages(
            connections.clock, lambda item: item[0].send(item[1], item[2])
        )

    # Sending

    def start(self) -> None:
        """Dial all peers."""
        for link in self.links.values():
            link.start()

    def stop(self) -> None:
        """Stop dialling and sending; what has been written still goes out. Streams from peers end too."""
        self._held.clear()
        for link in self.links.values():
            link.stop()
        for stream in list(self.streams.values()):
            stream.connection.finish()

    def send(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """Send a message at the end of this turn, encoded once. It may be lost; it never arrives changed."""
        payload = self._encode(message)
        kind = type(message)
        if self.trace is not None:
            self.trace.sent(receivers, message)
        if len(payload) > FRAME_BYTES_MAX:  # the limits are chosen so that this cannot be; better lost than a dead node
            _log.error("a {kind} of {size} bytes is not sent", kind=kind.__name__, size=len(payload))
            return
        if self.faults is not None:
            self._send_with_faults(self.faults, receivers, message, payload)
            return
        for node in receivers:
            self.links[node].send(payload, kind)

    def set_faults(self, faults: FaultLayer | None) -> None:
        """Put the message-fault layer in, or take it out. Messages that the layer before it holds go out at once."""
        if self.faults is not None:
            self._injected += self.faults.dropped
        self.faults = faults
        self._held.release_all()

    def dropped(self) -> dict[str, int]:
        """Messages that were not sent, or not taken in, by reason."""
        total = {"injected": self._injected + (self.faults.dropped if self.faults else 0)}
        for link in self.links.values():
            for reason, count in link.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def now_ms(self) -> int:
        """The time that a `FaultLayer` for `set_faults` has to start with."""
        return self._held.now_ms()

    def _send_with_faults(
        self, faults: FaultLayer, receivers: tuple[NodeId, ...], message: Any, payload: bytes
    ) -> None:
        kind = type(message)
        self._held.release_due()
        now_ms = self._held.now_ms()
        for node in receivers:
            link = self.links[node]
            for delay_ms in faults.plan(self.local.node, node, message, now_ms):
                if not delay_ms:
                    link.send(payload, kind)
                elif not self._held.hold(now_ms + delay_ms, (link, payload, kind)):
                    link.dropped["overflow"] += 1

    # Receiving

    def welcome(self, connection: FrameConnection, hello: PeerHello) -> "PeerStream | None":
        """Take a peer's stream, or reject it and return None."""
        node = hello.sender
        rejected = self.local.check_peer(hello)
        if rejected is None:
            refusal = self._guard(node, hello.identity, hello.progress)
            if refusal is not None:
                rejected = Rejected("identity", refusal)
        if rejected is not None:
            self._reject(connection, node, rejected)
            return None
        self._refusals.pop(node, None)
        old = self.streams.get(node)
        if old is not None:
            # The peer has dialled again: it gave the old stream up, even if we have not noticed its end yet. What is
            # still in there would come after newer messages.
            old.connection.abort()
            old.on_lost()
        connection.reader.bytes_max = FRAME_BYTES_MAX
        notice_silence(connection, PEER_SILENCE_S)
        connection.send(self._encode(PeerWelcome(PROTOCOL_VERSION, self.local.node, self.local.identity)))
        stream = PeerStream(self, connection, node)
        self.streams[node] = stream
        # It hears us only on our stream to it. After a crash that would wait for its next turn to be dialled, up to a
        # second: for so long our answers to its questions ("would you follow me?") would be lost.
        self.links[node].hurry()
        return stream

    def forget(self, stream: "PeerStream") -> None:
        """A peer's stream has ended."""
        if self.streams.get(stream.node) is stream:
            del self.streams[stream.node]
            self._bytes_of_past_streams[stream.node] += stream.connection.bytes_in

    def bytes_received(self, node: NodeId) -> int:
        """Bytes that came from this peer on streams that it dialled."""
        stream = self.streams.get(node)
        return self._bytes_of_past_streams[node] + (stream.connection.bytes_in if stream else 0)

    def rejections(self) -> list[str]:
        """Sentences for people: which peers reject us, or are rejected by us, and why."""
        out = [f"no link to node {node}: {link.rejection}" for node, link in self.links.items() if link.rejection]
        return out + [f"node {node} is rejected: {text}" for node, text in sorted(self._refusals.items())]

    def _reject(self, connection: FrameConnection, node: NodeId, rejected: Rejected) -> None:
        connection.finish(self._encode(rejected))
        if node not in self.links:  # whoever it is: only members are remembered
            self.connections.count("peer", rejected.reason, f"{connection.address}: {rejected.text}")
            return
        key = ("peer", rejected.reason)
        self.connections.rejected[key] = self.connections.rejected.get(key, 0) + 1
        if self._refusals.get(node) != rejected.text:
            self._refusals[node] = rejected.text
            _log.error("rejected node {node} at {at}: {text}", node=node, at=connection.address, text=rejected.text)


class PeerStream:
    """The role of a connection on which a peer sends us messages."""

    def __init__(self, links: PeerLinks, connection: FrameConnection, node: NodeId) -> None:
        self.connection = connection
        self.node = node
        self._links = links

    def on_made(self) -> None:
        """The connection was made before it had this role."""

    def on_frames(self, frames: Iterator[bytes]) -> None:
        """Take messages."""
        links, node = self._links, self.node
        decode, receive, have_sender, received = links.decode, links.receive, links.have_sender, links.received[node]
        for payload in frames:
            try:
                message = decode(payload)
            except Exception as error:  # whatever a decoder may find to raise: it is the stream's fault, not ours
                self._fail(f"node {node} sent a frame that is no message: {error}")
                return
            kind = type(message)
            if kind in have_sender and message.sender != node:
                self._fail(f"node {node} sent a {kind.__name__} in the name of node {message.sender}")
                return
            received[kind] += 1
            if links.faults is not None and links.faults.cuts(node, links.local.node, message):
                continue
            if links.trace is not None:
                links.trace.received(node, message)
            receive(node, message)

    def on_bad_stream(self, text: str) -> None:
        """The stream is broken."""
        self._fail(f"node {self.node} sent {text}")

    def on_blocked(self, is_blocked: bool) -> None:
        """We send nothing here but the greeting."""

    def on_lost(self) -> None:
        """The peer will dial again. That it is gone, our own stream to it tells."""
        self._links.forget(self)

    def _fail(self, text: str) -> None:
        self._links.connections.count("peer", "frame", text)
        self.connection.abort()
