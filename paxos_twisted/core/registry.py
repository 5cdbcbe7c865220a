"""The engines by the name that the cluster configuration gives them: for the node, and for the simulator."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from paxos_twisted.core.engine import Engine
from paxos_twisted.core.multipaxos.replica import MultiPaxos


class EngineKind(NamedTuple):
    """How an engine is made, and what must be known of it before there is one."""

    make: Callable[..., Engine]
    """Restores an engine: called with the node, all members, the engine's settings, a source of randomness, the records
    that could be read, what is known of those that could not, the slot of the durable snapshot, and the last slot
    whose effect is in the replicated state."""
    message_type: Any
    """Union of its messages, for the codec."""


ENGINES: Final = {"multipaxos": EngineKind(MultiPaxos, MultiPaxos.message_type)}
