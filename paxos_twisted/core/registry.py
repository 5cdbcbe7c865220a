"""The engines by the name that the cluster configuration gives them: for the node, and for the simulator."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from paxos_twisted.apps.application import Application
from paxos_twisted.core.engine import Engine
from paxos_twisted.core.epaxos.replica import EPaxos
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.primary_backup.replica import PrimaryBackup


class EngineKind(NamedTuple):
    """How an engine is made, and what must be known of it before there is one."""

    make: Callable[..., Engine]
    """Restores an engine: called with the node, all members, the engine's settings, a source of randomness, the records
    that could be read, what is known of those that could not, the slot of the durable snapshot, and the last slot
    whose effect is in the replicated state; then, by keyword, the `application` and the `part` of the engine in the
    snapshot (`ReplicatedState.engine_part`)."""
    message_type: Any
    """Union of its messages, for the codec."""
    is_ordered: bool = True
    """All replicas apply all commands in one order, so a position means the same everywhere. Otherwise only commands
    that interfere have the same order, and sessions are counted in generations."""


def _multipaxos(*arguments: Any, application: Application | None = None, part: bytes = b"") -> Engine:
    """It looks at no command, and has nothing of its own in a snapshot."""
    del application, part
    return MultiPaxos(*arguments)


def _primary_backup(*arguments: Any, application: Application | None = None, part: bytes = b"") -> Engine:
    """It looks at no command, and has nothing of its own in a snapshot."""
    del application, part
    return PrimaryBackup(*arguments)


ENGINES: Final = {
    "multipaxos": EngineKind(_multipaxos, MultiPaxos.message_type),
    "epaxos": EngineKind(EPaxos, EPaxos.message_type, is_ordered=False),
    "primary-backup": EngineKind(_primary_backup, PrimaryBackup.message_type),
}
