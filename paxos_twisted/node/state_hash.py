"""The digest of the replicated state, for comparing replicas: taken a little at a time, so that nobody waits for it."""

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed

from paxos_twisted.core.replicated import Picture, ReplicatedState
from paxos_twisted.net.reactor import Clock
from paxos_twisted.types import NO_SLOT, Slot

REST = 9
"""After a digest that took t seconds the next one begins t * REST seconds later at the earliest: whoever asks all the
time costs a tenth of a core at most."""


class StateHash(NamedTuple):
    """The state after `slot`. Replicas with equal slots have equal digests."""

    slot: Slot
    digest: str
    coverage: str = ""
    """Names the set of applied commands, where the slot alone does not say which. Other sets, other digests."""


class StateHasher:
    """Computes digests when asked. One at a time; whoever asks meanwhile gets the same."""

    def __init__(self, clock: Clock, state: ReplicatedState, coverage: Callable[[], str] = str) -> None:
        """`coverage` names the set of commands that was applied, where the slot alone does not say which."""
        self._clock = clock
        self._state = state
        self._coverage = coverage
        self._covered = ""  # by the picture that is being taken
        self._newest = StateHash(NO_SLOT, "")
        self._rest_until = float("-inf")
        self._started = 0.0
        self._picture: Picture | None = None
        self._waiting: list[Deferred[StateHash]] = []
        self._is_stopped = False

    def get(self) -> Deferred[StateHash]:
        """The digest of the state as it is now, or, when it was asked for very recently, as it was a little before."""
        newest = self._newest
        is_fresh = newest.digest and newest.slot == self._state.applied
        if self._is_stopped or is_fresh or (newest.digest and self._clock.seconds() < self._rest_until):
            return succeed(newest)
        deferred: Deferred[StateHash] = Deferred()
        self._waiting.append(deferred)
        if self._picture is None:
            self._picture = self._state.photograph()
            self._covered = self._coverage()
            self._started = self._clock.seconds()
            self._clock.callLater(0, self._step)
        return deferred

    def stop(self) -> None:
        """Give up what is under way; whoever waits gets the digest before."""
        self._is_stopped = True
        if self._picture is not None:
            self._picture.release()
            self._picture = None
        self._answer()

    def _step(self) -> None:
        picture = self._picture
        if picture is None:
            return
        if picture.next_piece() is not None:  # a few milliseconds at most
            self._clock.callLater(0, self._step)
            return
        self._newest = StateHash(picture.slot, picture.digest(), self._covered)
        self._picture = None
        now = self._clock.seconds()
        self._rest_until = now + REST * (now - self._started)
        self._answer()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self._newest)
