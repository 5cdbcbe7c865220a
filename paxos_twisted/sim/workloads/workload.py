"""What the simulator must know of an application: what its clients ask for, and what it should answer."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.check.model import Model as CheckModel
from paxos_twisted.sim.model import Specification


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How a client behaves."""

    requests: int = 40
    outstanding: int = 1
    """Requests that may be unanswered at a time."""
    think_ms: int = 40
    """Longest pause before the next request."""
    timeout_ms: int = 700
    """No answer for this long: unknown; try the next node."""
    accounts: int = 8
    """Keys that all clients use: accounts, names, rooms, auctions."""
    transfer_share: float = 0.1
    """Operations that touch several keys."""
    give_up_share: float = 0.03
    """Probability that a client drops a request which was certainly refused, or on a time-out dies and comes back as a
    new client."""
    series_share: float = 0.0
    """Probability that a client which has no other request under way sends a series. Only for applications that take
    them."""
    series_length_max: int = 20
    """Operations of a series; at least 2."""
    own_share: float = 0.0
    """Operations on a key that no other client uses: they conflict with nobody's."""


class Workload(Protocol):
    """One application."""

    name: str
    """As in the cluster configuration."""

    def application(self) -> Application:
        """The shipped one, empty."""
        ...

    def specification(self) -> Specification:
        """The plain one, empty."""
        ...

    def checker(self) -> CheckModel[Any, Any] | None:
        """What the search of `paxos_twisted.check` works with; None when there is nothing for this application."""
        ...

    def draw(self, rand: Callable[[], float], habits: Habits, client: int) -> Any:
        """An operation of client number `client`; `rand` is its own source of numbers in [0, 1)."""
        ...
