"""Exactly once: what each client has been answered, as part of the replicated state. [Raft dissertation, 6.3]

A command may be decided in two slots (a retry at a new leader while the old Accept survives), so the check is made when
a command is applied, on state that all replicas share.

A session is opened by its first command and takes no slot of its own. It expires by log position: when its shard of the
table is full, the session of that shard that has been silent for longest goes, and when a session has been silent for
`expiry_slots` it goes. How do we tell the late retry of an expired session (which must be refused) from the first
command of a new one (which must be applied)? By its `birth`, a log position from before the session's first command:

1. An expired session was last active at some slot L. Its birth is below L.
2. When it goes, the shard's `horizon` becomes at least L.
3. An unknown client with birth < horizon may have been there before: it is refused. Its command was not applied here.
4. A client that chooses its id now has birth = now, above every horizon of sessions that were silent for long.

Where replicas apply commands in different orders (only those that interfere have one order), positions say nothing that
all share. There a *generation* takes the place of the slot: the number of barriers applied so far. A barrier is a
logged command that interferes with everything, so all replicas have applied the same commands before it. Sessions are
stamped with generations, go at barriers only, and leave a horizon one above their last generation, so that a birth in
that very generation counts as "may have been there before", too.
"""

from typing import Any, Generic, TypeVar

import msgspec

from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.table import Table
from paxos_twisted.limits import SESSION_WINDOW, SESSIONS_PER_SHARD_MAX, SHARDS
from paxos_twisted.types import NO_SLOT, Slot

Result = TypeVar("Result")


GENERATIONS_KEPT = 8
"""A session goes after so many generations of silence."""

SESSIONS_OPENED_MAX = 32_768
"""New sessions between two barriers, before one is asked for: they add so many rows to the table at most, roughly."""


class Session(msgspec.Struct, Generic[Result], array_like=True, gc=False):
    """One client's answers that it has not acknowledged yet."""

    active: Slot
    """Slot of the newest command."""
    low: int
    """Every seq below is acknowledged: its answer is forgotten and a repetition is refused as stale."""
    answers: dict[int, Result]
    """seq -> result, all with low <= seq < low + SESSION_WINDOW."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The session table does not let this command be applied. The same on every replica."""

    reason: str
    text: str


class Sessions:
    """The session table. `find` before a command is applied, `store` after it."""

    __slots__ = ("expiry_slots", "in_generations", "opened", "table")

    def __init__(self, result_type: Any, expiry_slots: int, *, in_generations: bool = False) -> None:
        row_type = tuple[int, int | Session[result_type]]
        # Row -1 - i is the horizon of part i: a slot. Every other row is the session of a client (ids are >= 0).
        self.table: Table[int, Any] = Table("sessions", row_type, _shard_of)
        self.expiry_slots = expiry_slots
        self.in_generations = in_generations
        """Stamps are generations; `end_generation` is called instead of `expire`."""
        self.opened = 0
        """Sessions opened since the last barrier, or the start."""

    def find_series(self, series: Series[Any]) -> Any:
        """The same as `find`, for a series: its outcome is the results' encoding."""
        outcome = self.find(series)
        if outcome is None and series.ack != series.seq:
            return Refusal("window", f"series {series.seq} is not the oldest unanswered request (ack {series.ack})")
        return outcome

    def find(self, command: Command[Any] | Series[Any]) -> Any:
        """Return the first outcome of a repeated command (a result or a Refusal), or None: apply it now."""
        client, seq = command.client, command.seq
        index = client % SHARDS
        if command.ack > seq:
            return Refusal("invalid", f"request {seq} acknowledges its own answer (ack {command.ack})")
        session = self.table.shards[index].get(client)
        if session is None:
            if command.birth < self.table.shards[index].get(-1 - index, NO_SLOT):
                return Refusal("expired", f"session {client} has expired; take a new client id")
            low = command.ack
        else:
            result = session.answers.get(seq)
            if result is not None:
                return result
            low = session.low
            if seq < low:
                return Refusal("stale", f"request {seq} was acknowledged before; its answer is forgotten")
            low = max(low, command.ack)
        if seq >= low + SESSION_WINDOW:
            return Refusal("window", f"request {seq} is {SESSION_WINDOW} or more ahead of the oldest unanswered one")
        return None

    def store(self, slot: Slot, command: Command[Any] | Series[Any], result: Any) -> None:
        """Remember the result of a command that was just applied in `slot`, for which `find` returned None."""
        assert result is not None  # None would look like a command that was never applied
        client, ack = command.client, command.ack
        shard = self.table.writable(client)
        session = shard.get(client)
        if session is None:
            index = client % SHARDS
            if self.in_generations:
                self.opened += 1
            elif len(shard) - (-1 - index in shard) >= SESSIONS_PER_SHARD_MAX:
                _evict(shard, index, _most_silent(shard))
            shard[client] = Session(slot, ack, {command.seq: result})
            return
        session.active = slot
        answers = session.answers
        if ack > session.low:
            if ack - session.low <= len(answers):  # whichever is shorter: what is acknowledged, or what is kept
                for seq in range(session.low, ack):
                    answers.pop(seq, None)
            else:
                for seq in [seq for seq in answers if seq < ack]:
                    del answers[seq]
            session.low = ack
        answers[command.seq] = result

    def expire(self, slot: Slot) -> None:
        """Remove the sessions of one part that were silent for `expiry_slots`. Called for each multiple of SHARDS."""
        index = slot // SHARDS % SHARDS
        oldest = slot - self.expiry_slots
        shard = self.table.shards[index]
        silent = sorted(key for key, row in shard.items() if key >= 0 and row.active < oldest)
        if silent:
            shard = self.table.writable(silent[0])
            for client in silent:
                _evict(shard, index, client)

    @property
    def generation(self) -> int:
        """Number of barriers so far. It is part of the table, in a row of its own."""
        key = -1 - SHARDS
        generation: int = self.table.shard(key).get(key, 0)
        return generation

    @property
    def wants_barrier(self) -> bool:
        """So many sessions were opened that some should go."""
        return self.opened >= SESSIONS_OPENED_MAX

    def end_generation(self) -> None:
        """A barrier was applied: remove what was silent for GENERATIONS_KEPT generations, and what is too much."""
        assert self.in_generations
        self.opened = 0
        key = -1 - SHARDS
        generation = self.generation + 1
        self.table.writable(key)[key] = generation
        for index, shard in enumerate(self.table.shards):
            clients = sorted((row.active, key) for key, row in shard.items() if key >= 0)
            surplus = len(clients) - SESSIONS_PER_SHARD_MAX
            going = [
                client
                for rank, (active, client) in enumerate(clients)
                if rank < surplus or active < generation - GENERATIONS_KEPT
            ]
            if going:
                writable = self.table.writable(going[0])
                for client in going:
                    _evict(writable, index, client, 1)

    def __len__(self) -> int:
        """Number of open sessions."""
        rows = sum(len(shard) - (-1 - index in shard) for index, shard in enumerate(self.table.shards))
        return rows - (-1 - SHARDS in self.table.shards[0])


def _shard_of(key: int) -> int:
    return key if key >= 0 else -1 - key


def _most_silent(shard: dict[int, Any]) -> int:
    return min((row.active, key) for key, row in shard.items() if key >= 0)[1]


def _evict(shard: dict[int, Any], index: int, client: int, above: int = 0) -> None:
    session = shard.pop(client)
    shard[-1 - index] = max(shard.get(-1 - index, NO_SLOT), session.active + above)
