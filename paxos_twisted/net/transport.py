"""Listening and connecting, on stock Twisted transports or on ones that send at once.

A stock transport never sends in `write`: it asks the poller to be told that the socket is writable, is told, sends,
and asks the poller to stop. That is three system calls and a turn through the reactor for what one `send` does when the
socket has room, which it nearly always has. `DirectServer` and `DirectClient` try that `send` first if nothing is
waiting. What does not fit goes the usual way. They are worth having only together with one write per turn (see
`paxos_twisted.net.turn`): a `send` per message would cost more than it saves.

Everything else is inherited, so all that is promised of Twisted's transports holds: order, producers, half-close,
errors that are reported in a later turn and never out of `write`.
"""

from collections.abc import Iterable
from typing import Any, Protocol, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IReactorFDSet

from paxos_twisted.limits import DIAL_TIMEOUT_S
from paxos_twisted.net.reactor import ListeningPort, Reactor


class _SendsAtOnce(tcp.Connection):
    """Overrides `write` alone."""

    def write(self, data: bytes) -> None:
        """As the stock `write`, but with an attempt to send now."""
        if (
            data
            and self.connected
            and not (self._tempDataLen or self.dataBuffer)
            and not (self._writeDisconnected or self._aborting or self.TLS)
            # A pull producer is asked for more by `doWrite`, which must therefore be reached.
            and (self.producer is None or self.streamingProducer)
        ):
            try:
                sent = self.socket.send(data)
            except OSError:
                # No room, or lost. The stock transport finds out which, and says so, in `doWrite`: leave it to that.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """As the stock `writeSequence`."""
        self.write(b"".join(iovec))


class DirectServer(_SendsAtOnce, tcp.Server):
    """The accepted end of a connection, sending at once."""


class DirectClient(_SendsAtOnce, tcp.Client):
    """The dialled end of a connection, sending at once."""


class _DirectPort(tcp.Port):
    transport = DirectServer


class _DirectConnector(tcp.Connector):
    def _makeTransport(self) -> tcp.Client:
        return DirectClient(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


class Connector(Protocol):
    """A connection attempt. [IConnector]"""

    def disconnect(self) -> None:
        """Give up the attempt, or close the connection."""
        ...


class Sockets:
    """Listens and connects on a reactor.

    Args:
        direct: use the transports that send at once. Ignored on reactors that do not poll file descriptors.
    """

    def __init__(self, reactor: Reactor, direct: bool) -> None:
        self._reactor = reactor
        self.direct = direct and IReactorFDSet.providedBy(reactor)

    def listen(self, host: str, port: int, factory: Any, backlog: int = 512) -> ListeningPort:
        """Listen on a TCP port (0: a free one).

        Raises:
            twisted.internet.error.CannotListenError: the address is not ours or in use.
        """
        if not self.direct:
            return self._reactor.listenTCP(port, factory, backlog, host)
        listening = _DirectPort(port, factory, backlog, host, self._reactor)
        listening.startListening()
        return cast(ListeningPort, listening)

    def connect(self, host: str, port: int, factory: Any, timeout_s: float = DIAL_TIMEOUT_S) -> Connector:
        """Connect. The outcome is told to `factory`, a `twisted.internet.protocol.ClientFactory`."""
        if not self.direct:
            return cast(Connector, self._reactor.connectTCP(host, port, factory, timeout_s))
        connector = _DirectConnector(host, port, factory, timeout_s, None, self._reactor)
        connector.connect()
        return cast(Connector, connector)
