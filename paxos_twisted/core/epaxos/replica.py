"""The EPaxos engine: owner, acceptor, recovery and execution of one replica, joined behind the engine contract."""

from collections.abc import Sequence
from random import Random
from typing import Any

from paxos_twisted.apps.application import Application
from paxos_twisted.core.engine import Output
from paxos_twisted.core.epaxos.messages import Message
from paxos_twisted.core.epaxos.settings import Settings
from paxos_twisted.core.records import Header, LogRecord
from paxos_twisted.types import NO_SLOT, NodeId, Slot


class EPaxos:
    """One replica of EPaxos. See `paxos_twisted.core.engine.Engine` for the contract.

    Args:
        node: this node.
        members: all nodes, this one included. Replica number i is the i-th of them, sorted.
        settings: the cluster's settings.
        rng: jitter of back-offs; nothing else is random.
        entries, lost, snapshot, applied: what the storage recovered, see `paxos_twisted.core.epaxos.restore`.
        application: says what commands touch.
        part: the engine's part of the snapshot (`ReplicatedState.engine_part`); empty when there is none.

    Raises:
        ValueError: records were lost that this engine cannot do without.
    """

    name = "epaxos"
    message_type: Any = Message

    def __init__(
        self,
        node: NodeId,
        members: Sequence[NodeId],
        settings: Settings,
        rng: Random,
        entries: Sequence[LogRecord] = (),
        lost: Sequence[Header] = (),
        snapshot: Slot = NO_SLOT,
        applied: Slot = NO_SLOT,
        *,
        application: Application,
        part: bytes = b"",
    ) -> None:
        self.node = node
        self.members = tuple(sorted(members))
        self.settings = settings
        self._out = Output(1)
