"""The proposer: phase 1 once per leader change, then phase 2 for run after run. [Paxos Made Simple, 2.2, 3]"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from paxos_twisted.core.command import NOOP, slice_run, split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.multipaxos.messages import Accept, Decision, Prepare, Promise, Vote
from paxos_twisted.core.runs import RunMap
from paxos_twisted.limits import RUN_BYTES_MAX, WINDOW_BYTES_MAX
from paxos_twisted.types import NO_ROUND, NO_SLOT, NodeId, Round, Slot


class Proposer:
    """One node's proposals: its round, what phase 1 bound it to, and the window of open slots.

    Used alone: `prepare`, `handle_promise`, `propose`, `take_accepts` and `advance` are the whole interface.

    Args:
        node: the node this proposer runs on. Its rounds are node, node + stride, node + 2 * stride …
        nodes: number of acceptors; a quorum is any majority of them.
        adu: every slot up to here is decided.
        stride: distance of this node's rounds. The lab uses the number of nodes, which is the default. A cluster uses
            ROUND_STRIDE, which stays the same when the number of nodes changes.
        alpha: slots that may be open above `adu`. 1: a slot is proposed when the one before it is decided.
    """

    def __init__(
        self, node: NodeId, nodes: int, adu: Slot = NO_SLOT, *, stride: int | None = None, alpha: int = 1
    ) -> None:
        self.node = node
        self.quorum_size = nodes // 2 + 1
        self.stride = nodes if stride is None else stride
        self.alpha = alpha
        self.adu = adu
        """Every slot <= adu is decided; never goes down."""
        self.crnd: Round = node
        """This proposer's current round; never used by any other node."""
        self.phase1_done = False
        self.must_reach: Slot = NO_SLOT
        """An acceptor has truncated its votes up to here: this node must catch up before it may propose."""
        self.bound_to: Slot = NO_SLOT
        """Phase 1 bound every slot up to here."""
        self.noops_bound = 0
        """How many of the bound slots got a no-op."""
        self.skips: frozenset[Slot] = frozenset()
        """Slots left out on purpose, for tests: whoever leads next finds holes. Empty once that has come about."""
        self._promises: dict[NodeId, Promise] = {}
        self._bound: deque[Accept] = deque()
        self._queue: deque[Batch] = deque()
        self._queued = 0
        self._next: Slot = NO_SLOT
        self.open: RunMap[Accept] = RunMap()
        """Accepts sent and not known to be decided."""
        self._open_bytes = 0

    # Phase 1

    def increase_crnd(self, above: Round = NO_ROUND) -> None:
        """Move to this node's lowest round that is higher than its current one and than `above`."""
        steps = max((max(above, self.crnd) - self.node) // self.stride + 1, 1)
        self.crnd = self.node + steps * self.stride
        self.forget_phase1()

    def prepare(self) -> Prepare:
        """Start phase 1 of the current round for every slot above `adu`."""
        self.forget_phase1()
        return Prepare(self.node, self.adu + 1, self.crnd)

    def forget_phase1(self) -> None:
        """Whatever phase 1 gave is void: this node is deposed, or starts again."""
        self.phase1_done = False
        self._promises.clear()
        self._bound.clear()

    def handle_promise(self, promise: Promise) -> list[Accept] | None:
        """Count a promise. With the quorum, return the accepts that phase 1 binds this proposer to.

        Returns None when there is no output: another round, a second promise of the same node, no quorum yet, or a
        quorum was there before. The list holds each slot from adu + 1 to the highest one voted in, in slot order, with
        the value of the highest round, or a no-op where nobody voted; it is empty when nobody voted at all.
        """
        if promise.rnd != self.crnd or self.phase1_done or promise.sender in self._promises:
            return None
        if promise.first > self.adu + 1:
            # The acceptor has truncated slots we do not know: it must not look as if it had not voted there.
            self.must_reach = max(self.must_reach, promise.first - 1)
            return None
        self._promises[promise.sender] = promise
        if len(self._promises) < self.quorum_size:
            return None
        self.phase1_done = True
        accepts = self._bind()
        self._bound = deque(accepts)
        self._promises.clear()
        self.bound_to = accepts[-1].slot + accepts[-1].count - 1 if accepts else self.adu
        self._next = self.bound_to + 1
        self.open.clear()
        self._open_bytes = 0
        return accepts

    def _bind(self) -> list[Accept]:
        newest: RunMap[Vote] = RunMap()
        for promise in self._promises.values():
            for vote in promise.votes:
                self._note(newest, vote)
        accepts: list[Accept] = []
        self.noops_bound = 0
        slot, stop = self.adu + 1, newest.stop
        while slot < stop:
            bound = newest.at(slot)
            if bound is None:
                end = newest.holes(slot, stop)[0][1]
                accepts.append(Accept(self.node, slot, self.crnd, NOOP * (end - slot), end - slot))
                self.noops_bound += end - slot
            else:
                end = bound.slot + bound.count
                accepts.append(Accept(self.node, bound.slot, self.crnd, bound.vval, bound.count))
            slot = end
        return accepts

    def _note(self, newest: RunMap[Vote], vote: Vote) -> None:
        """Keep, slot by slot, the vote of the highest round. Slots at or below adu are decided: dropped."""
        stop = vote.slot + vote.count
        start = max(vote.slot, self.adu + 1)
        if start >= stop:
            return
        pieces = [(known.slot, known.slot + known.count, known.vrnd) for known in newest.within(start, stop)]
        pieces += [(a, b, NO_ROUND) for a, b in newest.holes(start, stop)]
        for a, b, vrnd in pieces:
            if vote.vrnd > vrnd:
                newest.put(Vote(a, vote.vrnd, slice_run(vote.vval, vote.count, a - vote.slot, b - a), b - a))

    # Phase 2

    @property
    def waiting(self) -> int:
        """Commands queued or open."""
        return self._queued + max(self._next - 1 - max(self.adu, self.bound_to), 0)

    def propose(self, batch: Batch) -> None:
        """Queue client commands; `take_accepts` sends them when phase 1 is done and the window has room."""
        self._queue.append(batch)
        self._queued += batch.count

    def advance(self, adu: Slot) -> None:
        """Every slot up to `adu` is decided now."""
        if adu <= self.adu:
            return
        self.adu = adu
        while self.open:
            accept = self.open.at(self.open.first)
            assert accept is not None
            if accept.slot > adu:
                break
            if accept.slot + accept.count > adu + 1:
                self.open.within(accept.slot, adu + 1)
                accept = self.open.get(accept.slot)
                assert accept is not None
            self.open.pop(accept)
            self._open_bytes -= len(accept.values)

    def is_contradicted(self, decisions: Sequence[Decision]) -> bool:
        """Whether any of these decisions is for another value than the one that is open in its slot."""
        for decision in decisions:
            stop = decision.slot + decision.count
            for accept in self.open.within(decision.slot, stop):
                if accept.values != slice_run(
                    decision.value, decision.count, accept.slot - decision.slot, accept.count
                ):
                    return True
        return False

    def take_accepts(self) -> list[Accept]:
        """What may be sent now: first what phase 1 bound, then client commands, within the window, in slot order.

        Bound slots are sent at once, also those beyond our own window: the window of the leader before us may have
        been larger, and nothing can be decided above them before they are.
        """
        if not self.phase1_done:
            return []
        accepts: list[Accept] = []
        # What was decided meanwhile (this node may have known decisions above a hole) need not be proposed again, and
        # would stay open for ever: `advance` has passed it.
        while self._bound and self._bound[0].slot <= self.adu:
            accept = self._bound.popleft()
            if accept.slot + accept.count > self.adu + 1:
                self._bound.appendleft(accept.cut(self.adu + 1)[1])
        if self._bound and self.alpha > 1:
            accepts.extend(_joined(self._bound))
            self._bound.clear()
        while self._bound and self._bound[0].slot <= self.adu + self.alpha:
            accept = self._bound.popleft()
            room = self.adu + self.alpha + 1 - accept.slot
            if accept.count > room:
                accept, rest = accept.cut(accept.slot + room)
                self._bound.appendleft(rest)
            accepts.append(accept)
        if not self._bound:
            self._take_commands(accepts)
        for accept in accepts:
            self.open.put(accept)
            self._open_bytes += len(accept.values)
        return accepts

    def _take_commands(self, accepts: list[Accept]) -> None:
        open_bytes = self._open_bytes
        self._next = max(self._next, self.adu + 1)
        while self._queue:
            room = self.adu + self.alpha + 1 - self._next
            if self._must_wait(self._queue[0], room):
                return
            if self.skips:
                room = self._skip(room)
            if room <= 0 or open_bytes >= WINDOW_BYTES_MAX:
                return
            run = self._next_run(room)
            accepts.append(Accept(self.node, self._next, self.crnd, run.body, run.count))
            self._next += run.count
            open_bytes += len(run.body)

    def _skip(self, room: int) -> int:
        """Go past slots that are to be left out. Returns how many may be proposed behind them in one run."""
        while self._next in self.skips:
            self._next += 1
            room -= 1
        ahead = [slot - self._next for slot in self.skips if slot > self._next]
        return min(room, *ahead) if ahead else room

    def _next_run(self, room: int) -> Batch:
        """Join queued batches while they fit one run; cut the last one where the window ends."""
        bodies: list[bytes] = []
        size = slots = 0
        while self._queue and slots < room:
            batch = self._queue[0]
            if bodies and (size + len(batch.body) > RUN_BYTES_MAX or self._must_wait(batch, room - slots)):
                break
            self._queue.popleft()
            if batch.count > room - slots:
                self._queue_in_parts(batch, room - slots)
                batch = self._queue.popleft()
            bodies.append(batch.body)
            size += len(batch.body)
            slots += batch.count
        self._queued -= slots
        return Batch(bodies[0] if len(bodies) == 1 else b"".join(bodies), slots)

    def _must_wait(self, batch: Batch, room: int) -> bool:
        return batch.is_whole and room < batch.count <= self.alpha

    def _queue_in_parts(self, batch: Batch, first: int) -> None:
        """Put a batch back as parts of `first`, alpha, alpha … commands: each then fits the window whole."""
        commands = split_run(batch.body, batch.count)
        starts = [0, *range(first, batch.count, self.alpha)]
        stops = [*starts[1:], batch.count]
        for start, stop in zip(reversed(starts), reversed(stops), strict=True):
            self._queue.appendleft(Batch(b"".join(commands[start:stop]), stop - start))

    def depose(self) -> tuple[list[Batch], list[Batch]]:
        """Stop leading: forget phase 1, and hand back the commands (never proposed, proposed and open)."""
        if self.skips and self._next > min(self.skips):
            self.skips = frozenset()
        never = list(self._queue)
        # What phase 1 bound was not asked for by clients of ours: nobody here waits for it.
        opened = [Batch(accept.values, accept.count) for accept in self.open if accept.slot > self.bound_to]
        self._queue.clear()
        self._queued = 0
        self.open.clear()
        self._open_bytes = 0
        self._next = self.adu + 1
        self.forget_phase1()
        return never, opened


def _joined(accepts: Iterable[Accept]) -> Iterator[Accept]:
    """The same proposals in fewer runs: what was decided slot by slot is proposed again a run at a time."""
    bodies: list[bytes] = []
    first: Accept | None = None
    size = count = 0
    for accept in accepts:
        if first is not None and size + len(accept.values) > RUN_BYTES_MAX:
            yield Accept(first.sender, first.slot, first.rnd, b"".join(bodies), count)
            first = None
        if first is None:
            first, bodies, size, count = accept, [], 0, 0
        bodies.append(accept.values)
        size += len(accept.values)
        count += accept.count
    if first is not None:
        yield Accept(first.sender, first.slot, first.rnd, b"".join(bodies), count)
