"""What is known of one wait. All times are nanoseconds of one clock: that of the client's history."""

from dataclasses import dataclass, field

NOBODY = -1
"""As a leader: none is known."""


@dataclass(frozen=True)
class Step:
    """What a client did on its way to a node that answers, see `docs/history.md`."""

    time_ns: int
    what: str
    address: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Wait:
    """A time in which a client got no answer although it was waiting for one."""

    client: str
    start_ns: int
    """Its last answer; or its request, when none was under way before."""
    end_ns: int
    """The next answer."""
    sent_ns: int
    """When the copy of the request left that was answered then."""
    steps: tuple[Step, ...] = ()

    @property
    def length_ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class Event:
    """Something that happened at a node, in the words of /events."""

    time_ns: int
    node: int
    event: str
    peer: int | None = None
    rnd: int | None = None
    cause: str = ""


@dataclass(frozen=True)
class Fault:
    """What broke the cluster. It struck somewhere between two moments: a command needs a while for what it does."""

    begun_ns: int
    done_ns: int
    nodes: frozenset[int] = frozenset()
    """Which nodes were struck."""


@dataclass(frozen=True)
class Facts:
    """Everything that is known of one wait."""

    wait: Wait
    events: tuple[Event, ...]
    """Of all nodes, in the order of time."""
    fault: Fault | None = None
    uncertainty_ns: int = 0
    """By how much the clocks of nodes may differ from the client's, after correction."""
    addresses: dict[str, int] = field(default_factory=dict)
    """Whose address is whose, for texts."""
