"""What the simulator must know of an engine: how it is checked, who leads, how long it may take."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from paxos_twisted.apps.application import Application
from paxos_twisted.core.engine import Engine
from paxos_twisted.sim.invariants import Invariants
from paxos_twisted.sim.model import Model
from paxos_twisted.types import NodeId


class Subject(ABC):
    """One engine."""

    name: ClassVar[str]
    """As in the cluster configuration."""
    settings: ClassVar[Any]
    """The engine's settings in runs that do not draw them: shorter times than the defaults, in the same relations."""
    message_kinds: ClassVar[tuple[tuple[str, ...], ...]]
    """Message types that a message fault may single out: what overtakes what matters more than how late all is."""
    proposals: ClassVar[tuple[str, ...]]
    """Messages that carry new commands: a node that limps reaches only some of the others with them."""
    has_leader: ClassVar[bool] = True

    @abstractmethod
    def invariants(self, nodes: Sequence[NodeId], model: Model, application: Application, settings: Any) -> Invariants:
        """The checks, for one cluster that runs `application` (an empty one) with these settings of the engine."""

    @abstractmethod
    def leader(self, engines: Mapping[NodeId, Engine]) -> NodeId | None:
        """Which of the running engines leads, seen from outside; None when none does, or when the engine has none."""

    def term(self, engine: Engine) -> int:
        """A number that grows with each change of the leader."""
        return 0

    @abstractmethod
    def describe(self, engine: Engine) -> str:
        """The state of an engine in a few words."""

    @abstractmethod
    def election_ms(self, settings: Any) -> int:
        """How long it may take, after the last fault, until commands are taken again."""

    @abstractmethod
    def draw_settings(self, rand: Callable[[], float]) -> Any:
        """Settings of a run of the swarm."""

    def window(self, settings: Any) -> int:
        """How many commands may be under way at a time."""
        return 64

    def survives_rot(self, settings: Any) -> bool:
        """Whether a cluster gets over one node that must keep silent about what has rotted on its disk."""
        return True
