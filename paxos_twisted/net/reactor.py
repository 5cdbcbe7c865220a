"""What this package uses of Twisted's reactor and transports, as types that mypy understands."""

from collections.abc import Callable
from typing import Any, Protocol


class DelayedCall(Protocol):
    """A call that is to come. [twisted.internet.interfaces.IDelayedCall]"""

    def cancel(self) -> None:
        """Do not make the call."""
        ...

    def active(self) -> bool:
        """Whether the call is still to come."""
        ...


class Clock(Protocol):
    """Time. [IReactorTime]"""

    def seconds(self) -> float:
        """The time; only differences mean anything."""
        ...

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: Any) -> DelayedCall:
        """Make a call after `delay` seconds, never before this turn of the reactor ends."""
        ...


class Transport(Protocol):
    """A TCP connection. [ITCPTransport, IConsumer, IPushProducer]"""

    def write(self, data: bytes, /) -> None: ...

    def loseConnection(self) -> None: ...

    def loseWriteConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def registerProducer(self, producer: Any, streaming: bool, /) -> None: ...

    def unregisterProducer(self) -> None: ...

    def setTcpNoDelay(self, enabled: bool, /) -> None: ...

    def setTcpKeepAlive(self, enabled: bool, /) -> None: ...

    def getPeer(self) -> Any: ...


class ListeningPort(Protocol):
    """A listening socket. [IListeningPort]"""

    def stopListening(self) -> Any:
        """Stop. Returns a Deferred, or None when it has stopped already."""
        ...

    def getHost(self) -> Any:
        """The address, with the port number that the system chose if it was to."""
        ...


class Reactor(Clock, Protocol):
    """Time, TCP and threads. [IReactorTime, IReactorTCP, IReactorThreads]"""

    def listenTCP(self, port: int, factory: Any, backlog: int = ..., interface: str = ...) -> ListeningPort: ...

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = ...) -> Any: ...

    def callFromThread(self, callable: Callable[..., object], /, *args: Any) -> None: ...
