"""The message trace: one line in the log for each message between nodes, for people who want to watch the protocol.

    to 2, 3: PreAccept 0.4                                    level "kinds": kind, instance or slot, and to whom
    to 2, 3: PreAccept 0.4 deps (3, -1, 7) seq 2, 1 command   level "attributes": dependencies, seq, ballots, rounds
    from 2: PreAcceptReply 0.4 deps (3, 0, 7) seq 3

It costs more than the protocol itself, and is not rate-limited: for course work and small experiments.
"""

from typing import Any, Final

from twisted.logger import Logger

from paxos_twisted.types import NodeId

LEVELS: Final = ("off", "kinds", "attributes")

log = Logger()


class MessageTrace:
    """Writes the lines.

    Args:
        level: one of LEVELS, not "off".
    """

    def __init__(self, level: str) -> None:
        self._with_attributes = level == "attributes"

    def sent(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """A message leaves."""
        self._write(f"to {', '.join(map(str, receivers))}", message)

    def received(self, sender: NodeId, message: Any) -> None:
        """A message has come."""
        self._write(f"from {sender}", message)

    def _write(self, whom: str, message: Any) -> None:
        # "unlimited": see `paxos_twisted.node.logs.RateLimit`.
        log.info("{whom}: {what}", whom=whom, what=describe(message, self._with_attributes), unlimited=True)


def describe(message: Any, with_attributes: bool) -> str:
    """Say in one line what a message is, and with attributes what it carries (commands by their number only)."""
    words = [type(message).__name__]
    replica, slot = getattr(message, "replica", None), getattr(message, "slot", None)
    if replica is not None:
        words.append(f"{replica}.{slot}")
    elif slot is not None:
        words.append(f"slot {slot}")
    if with_attributes:
        words += [
            f"{name} {_short(getattr(message, name))}"
            for name in message.__struct_fields__
            if name not in _NAMED and getattr(message, name) is not None
        ]
        count = getattr(message, "count", 0)
        if count:
            words.append(f"({count} command{'s' if count > 1 else ''})")
    return " ".join(words)


_NAMED: Final = frozenset({"sender", "to", "replica", "slot", "count"})


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, tuple) and len(value) > 9:
        return f"{len(value)} entries"
    return str(value)
