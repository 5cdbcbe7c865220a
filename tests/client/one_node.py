"""A cluster of one process for tests: real wire, real sessions, real bank, no consensus.

Several ports share one replicated state, so that clients can be sent from one "node" to another. Each port has a mood:

    lead       answers
    follow     redirects to the leader, on connecting and on requests
    lost       knows no leader
    silent     welcomes, then never says a word
    mute       accepts the connection and does not even welcome
    down       does not listen, and has reset its connections
    rejecting  refuses the handshake
    babbling   sends bytes that are no frames
    deaf       welcomes, then reads nothing more
    resetting  welcomes, and answers the first request with RST
    forgetful  applies requests and closes the connection instead of answering

Run it: prints {"ports": [...]} and obeys lines on stdin or in the fifo `--control`, e.g. "2 lead". "?" is answered with
"done" when all lines before it are obeyed, "!" with the totals so far, and the end of stdin with the totals.
"""

import argparse
import json
import os
import socket
import struct
import sys
import threading
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory, Protocol

from paxos_twisted.apps.bank import Bank
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState, is_refusal
from paxos_twisted.limits import CLIENT_FRAME_BYTES_MAX, SESSION_WINDOW
from paxos_twisted.types import NodeId
from paxos_twisted.wire.client import Answer, NoLeader, Redirect, Refused
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome, Rejected

_encode = msgspec.msgpack.Encoder().encode
_hello = msgspec.msgpack.Decoder(ClientHello)


class OneCluster:
    """The state, and the ports in front of it."""

    def __init__(self, reactor: Any, count: int, cluster: str = "demo") -> None:
        self.reactor = reactor
        self.name = cluster
        self.bank = Bank()
        self.state = ReplicatedState(self.bank, 10_000_000)
        self.decoder = msgspec.msgpack.Decoder(Command[self.state.application.op_type])
        self.ports = [OnePort(self, index) for index in range(count)]
        self.hellos = 0
        self.requests = 0

    @property
    def leader(self) -> "OnePort | None":
        return next((port for port in self.ports if port.mood == "lead"), None)

    def obey(self, line: str) -> None:
        """ "2 lead": set the mood of the second port. A new leader makes the old one follow."""
        if line.strip() == "?":
            print("done", flush=True)
            return
        if line.strip() == "!":
            self.tell()
            return
        number, mood = line.split()
        port = self.ports[int(number) - 1]
        if mood == "lead" and self.leader is not None:
            self.leader.mood = "follow"
        port.set_mood(mood)

    def tell(self) -> None:
        """Print the totals."""
        accounts = self.bank.accounts
        totals = {
            "hellos": self.hellos,
            "requests": self.requests,
            "commands": self.state.commands_applied,
            "money": sum(sum(shard.values()) for shard in accounts.shards),
        }
        print(json.dumps(totals), flush=True)


class OnePort:
    """One "node"."""

    def __init__(self, cluster: OneCluster, index: int) -> None:
        self.cluster = cluster
        self.node = NodeId(index + 1)
        self.mood = "lead" if index == 0 else "follow"
        self.connections: set[OneConnection] = set()
        self.factory = Factory.forProtocol(lambda: OneConnection(self))
        self.factory.noisy = False
        self.listening: Any = cluster.reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.number: int = self.listening.getHost().port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"

    def set_mood(self, mood: str) -> None:
        if mood == "down":
            self.listening.stopListening()
            for connection in list(self.connections):
                connection.reset()
        elif self.mood == "down":
            self.listening = self.cluster.reactor.listenTCP(self.number, self.factory, interface="127.0.0.1")
        self.mood = mood


class OneConnection(Protocol):
    """A client's connection."""

    transport: Any

    def __init__(self, port: OnePort) -> None:
        self.port = port
        self.reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
        self.is_welcome = False

    def connectionMade(self) -> None:
        self.port.connections.add(self)
        self.transport.setTcpNoDelay(True)

    def connectionLost(self, reason: Any = None) -> None:
        self.port.connections.discard(self)

    def reset(self) -> None:
        """RST instead of FIN."""
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()

    def say(self, *messages: Any) -> None:
        self.transport.write(b"".join(frame(_encode(message)) for message in messages))

    def dataReceived(self, data: bytes) -> None:
        replies = [reply for payload in self.reader.feed(data) for reply in self.on_frame(payload)]
        if replies:
            self.say(*replies)

    def on_frame(self, payload: bytes) -> list[Any]:
        cluster, mood = self.port.cluster, self.port.mood
        if mood == "mute":
            return []
        if mood == "babbling":
            self.transport.write(b"\xff" * 64)
            return []
        if not self.is_welcome:
            return self.on_hello(_hello.decode(payload))
        if mood == "silent":
            return []
        if mood == "resetting":
            self.reset()
            return []
        command = cluster.decoder.decode(payload)
        if mood in {"follow", "lost"}:
            return [self.elsewhere(command.client, command.seq)]
        cluster.requests += 1
        (result,) = cluster.state.apply(cluster.state.applied + 1, [command])
        if mood == "forgetful":
            self.transport.loseConnection()
            return []
        if is_refusal(result):
            return [Refused(command.client, command.seq, result.reason, result.text)]
        return [Answer(command.client, command.seq, result)]

    def on_hello(self, hello: ClientHello) -> list[Any]:
        cluster = self.port.cluster
        if self.port.mood == "rejecting" or hello.cluster != cluster.name:
            self.say(Rejected("cluster", f"this is cluster {cluster.name!r}, not {hello.cluster!r}"))
            self.transport.loseConnection()
            return []
        self.is_welcome = True
        cluster.hellos += 1
        if self.port.mood == "deaf":
            self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.transport.pauseProducing()
        welcome = ClientWelcome(PROTOCOL_VERSION, cluster.name, self.port.node, cluster.state.applied, SESSION_WINDOW)
        if self.port.mood in {"follow", "lost"}:
            return [welcome, self.elsewhere(hello.client, 0)]
        return [welcome]

    def elsewhere(self, client: Any, seq: int) -> Redirect | NoLeader:
        leader = self.port.cluster.leader
        if self.port.mood == "lost" or leader is None:
            return NoLeader(client, seq, 10, "no leader is known now")
        return Redirect(client, seq, leader.node, leader.address)


def main() -> None:
    """Run until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--control")
    arguments = parser.parse_args()
    reactor: Any = global_reactor
    cluster = OneCluster(reactor, arguments.nodes)

    def read(file: Any, *, ends: bool) -> None:
        for line in file:
            reactor.callFromThread(cluster.obey, line)
        if ends:
            reactor.callFromThread(reactor.stop)

    def read_control() -> None:
        while True:
            with open(arguments.control, encoding="utf-8") as file:
                read(file, ends=False)

    if arguments.control:
        os.mkfifo(arguments.control)
        threading.Thread(target=read_control, daemon=True).start()
    threading.Thread(target=read, args=(sys.stdin,), kwargs={"ends": True}, daemon=True).start()
    print(json.dumps({"ports": [port.number for port in cluster.ports]}), flush=True)
    reactor.run()
    cluster.tell()


if __name__ == "__main__":
    main()
