"""What this library needs of a reactor, as types: zope's interfaces say nothing to a type checker.

Every Twisted reactor provides them; tests pass `twisted.internet.task.Clock` and endpoints of their own.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class DelayedCall(Protocol):
    """A timer. [twisted.internet.interfaces.IDelayedCall]"""

    def cancel(self) -> None:
        """Stop it; raises if it has run or was cancelled."""

    def active(self) -> bool:
        """Whether it has neither run nor been cancelled."""
        ...


class Clock(Protocol):
    """Something that runs timers. [twisted.internet.interfaces.IReactorTime]"""

    @property
    def callLater(self) -> Callable[..., Any]:
        """callLater(seconds, function, *arguments) -> DelayedCall."""
        ...


class Endpoint(Protocol):
    """Something that can be dialled. [twisted.internet.interfaces.IStreamClientEndpoint]"""

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect a protocol that the factory builds."""
        ...
