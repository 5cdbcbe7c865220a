"""What a screen tells of the way to the cluster: that it broke, and that it is there again.

Which node is in use, and what the trouble is, stands in the bottom line.
"""

from collections.abc import Callable

from paxos_twisted_client.connection import REDIRECT
from paxos_twisted_client.pool import Move


class Breaks:
    """A failover makes a client try several nodes, some of them twice; a person wants to read that once."""

    def __init__(self, tell: Callable[[str], None], *, is_brief: bool) -> None:
        """`is_brief`: for a person. Otherwise every move is told."""
        self._tell = tell
        self._is_brief = is_brief
        self._is_broken = False

    def on_move(self, move: Move) -> None:
        """The pool leaves a node."""
        if not self._is_brief:
            self._tell(f"({move.text})")
        elif not self._is_broken and move.cause != REDIRECT:
            self._is_broken = True
            self._tell(f"({move.text}; looking for a node that answers)")

    def on_sign(self) -> None:
        """Something has come from the cluster."""
        if self._is_broken:
            self._is_broken = False
            self._tell("(connected again)")
