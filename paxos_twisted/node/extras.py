"""What one node may be asked for on its command line beside its configuration: front doors, and settings for tests."""

from pathlib import Path

import msgspec

from paxos_twisted.node.quantities import Address
from paxos_twisted.types import NodeId, Slot


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """By default: nothing."""

    service: Address | None = None
    """A further address to listen on, for clients, while this node leads. See `paxos_twisted.node.front_door`."""
    on_lead: str = ""
    """A shell command that is run when this node begins to lead: it moves a floating address here."""
    on_follow: str = ""
    """… and one for when it leads no more."""
    applied_log: Path | None = None
    """Where to write what is applied, see `paxos_twisted.node.applied_log`."""
    trace: str = "off"
    """How much of each message is logged, see `paxos_twisted.node.message_trace`."""
    answer_delay_ms: int = 0
    """Answers to operations that the application lets wait (bids) leave so much later."""
    loss: float = 0.0
    """Share of this node's messages to other nodes that are lost on purpose, from the start."""
    skip_slots: frozenset[Slot] = frozenset()
    """Slots that this node leaves out while it is the initial leader of a new cluster, so that its successor finds
    holes. Nothing behind a hole is applied, or answered, before that."""


NO_EXTRAS = Extras()


class SkipSlotsError(ValueError):
    """Slots cannot be skipped here. The text says why."""


def check_skip_slots(engine: str, members: tuple[NodeId, ...], node: NodeId) -> None:
    """Check that `node` may skip slots.

    Raises:
        SkipSlotsError: it may not.
    """
    if engine != "multipaxos":
        raise SkipSlotsError(f"slots are Multi-Paxos'; this cluster runs {engine}")
    if node != max(members):
        raise SkipSlotsError(f"only the initial leader may skip slots: node {max(members)} (uid 0), not node {node}")


def parse_slots(text: str) -> frozenset[Slot]:
    """Read "1,2,3,4".

    Raises:
        ValueError: a sentence that says what is wrong with `text`.
    """
    slots = set()
    for part in text.split(","):
        word = part.strip()
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            raise ValueError(f'"{word}" is not a slot; write 1,2,3')
        slots.add(Slot(int(word)))
    if len(slots) > 1000:
        raise ValueError(f"{len(slots)} slots; 1000 are allowed")
    return frozenset(slots)
