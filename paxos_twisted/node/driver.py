"""The driver: the only caller of the engine. It runs the order "start the write, send what needs none; once durable,
release what waited; apply what is decided; reply", once per reactor turn.

Pure Python: the Twisted node (`paxos_twisted.node.service`) and the simulator (`paxos_twisted.sim.node`) are its two
shells, so what is simulated is what is shipped.
"""

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec

from paxos_twisted.core.command import BARRIER, Command, Series, array_of, as_run
from paxos_twisted.core.engine import Batch, DiskState, Engine, LinkState, Output, OwnPart, Returned
from paxos_twisted.core.events import Event, StateDiverged
from paxos_twisted.core.records import PeerSeen, Record, SnapshotPiece, SnapshotTaken, Truncated, size_of_values
from paxos_twisted.core.replicated import Picture, ReplicatedState, SnapshotError, digest_of, engine_part_of
from paxos_twisted.core.sessions import Refusal
from paxos_twisted.core.transfer import (
    AVOID_MS,
    Incoming,
    Progress,
    SnapshotData,
    SnapshotGone,
    SnapshotOffer,
    SnapshotRequest,
    TransferMessage,
)
from paxos_twisted.limits import (
    COMMIT_BYTES_MAX,
    LOG_BYTES_KEPT_MAX,
    PROPOSALS_MAX,
    RUN_BYTES_MAX,
    WRITES_QUEUED_BYTES_MAX,
)
from paxos_twisted.node.proposer_time import ProposerTime
from paxos_twisted.types import NO_NODE, NO_SLOT, ClientId, NodeId, Slot
from paxos_twisted.wire.client import Answer, Answers, NoLeader, Redirect, Refused, Reply, Unknown

TICK_MS = 20
"""Time between two calls of `on_tick`."""

RETRY_AFTER_MS = 10
"""What clients are told to wait while there is no leader: about as long as an election takes after a crash."""

PROGRESS_MS = 1000
"""Time between two Progress messages."""

DECODED_MAX = 32_768
"""Commands kept decoded. A batch that is dropped is decoded once more."""

SERVING_MS = 2000
"""No snapshot is begun for so long after a peer has asked for a piece of the last one: it would have to start again."""

QUIET_MS = 1000
"""A state that did not change for so long is compared with the peers'."""

BARRIER_STEP_MS = 1000
"""Replicas propose the end of a generation of sessions this far apart; the first one is nearly always enough."""

PROGRESS_STEP = 1000
"""A peer's progress is noted durably when it has grown by this many records."""


class Disk(Protocol):
    """The node's log and snapshots."""

    def submit(self, write_no: int, records: Sequence[Record]) -> None:
        """Write, in order; `Driver.on_persisted(n)` follows, for this or a later write."""
        ...

    def read_piece(self, slot: Slot, index: int, then: Callable[[bytes | None], None]) -> None:
        """Read a piece of the durable snapshot; None when it is gone."""
        ...


class Network(Protocol):
    """The links to the other nodes. May lose messages, never alters them."""

    def send(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """Send to each of `receivers`."""
        ...


class Clients(Protocol):
    """The clients that are connected to this node."""

    connected: Container[int]
    """Their client ids."""

    def reply(self, client: int, reply: Reply) -> None:
        """Send over the connection on which `client` last sent a request; ignored when there is none."""
        ...


class Feeds(Protocol):
    """The clients that follow topics of the application here, see `Application.read_feed`."""

    @property
    def is_followed(self) -> bool:
        """Somebody follows something."""
        ...

    def on_applied(self, commands: Sequence[Command[Any] | Series[Any] | None], results: Sequence[Any]) -> None:
        """These commands were applied, with these results."""
        ...

    def on_installed(self) -> None:
        """The whole state was replaced by a snapshot."""
        ...

    def push(self) -> None:
        """Send what is new. Never raises."""
        ...


class Meter(Protocol):
    """Where durations are counted, in seconds."""

    def on_commit(self, seconds: float) -> None:
        """From the arrival of commands here to their decision; once a run."""
        ...

    def on_apply(self, seconds: float) -> None:
        """To apply one run."""
        ...

    def on_snapshot(self, seconds: float) -> None:
        """From the beginning of a snapshot until it is durable."""
        ...


class Shell(Protocol):
    """Whoever runs the driver."""

    def flush_soon(self) -> None:
        """Call `Driver.flush` once, at the end of this turn."""
        ...

    def stop(self, reason: str) -> None:
        """Something that must never happen happened: the node must stop at once."""
        ...

    def on_event(self, event: Event) -> None:
        """A past fact, for logs and metrics."""
        ...


class Driver:
    """One node, without its sockets, files and clocks.

    Args:
        node: this node.
        engine: its engine, restored from the log.
        state: the replicated state, as the durable snapshot has it.
        disk, network, clients, shell: the world.
        addresses: client address (host:port) of each node.
        snapshot_every: take a snapshot after this many slots.
        snapshot: the durable snapshot, if any.
        identity: random name of this node's data directory.
        last_record: number of the last record in the log.
        peers: data directories of the peers as this node knew them before.
        meter: counts durations, measured by `clock` (seconds, monotonic). Nothing else depends on that clock.
        time: the wall clock for what this node proposes; needed by applications with stamps or deadlines.
        feeds: tells followers what was applied.
        on_applied: is told every run of commands that was applied, with its first slot.
    """

    def __init__(
        self,
        *,
        node: NodeId,
        engine: Engine,
        state: ReplicatedState,
        disk: Disk,
        network: Network,
        clients: Clients,
        shell: Shell,
        addresses: Mapping[NodeId, str],
        snapshot_every: int,
        snapshot: SnapshotTaken | None = None,
        last_record: int = 0,
        peers: Mapping[NodeId, PeerSeen] | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = float,
        time: ProposerTime | None = None,
        feeds: Feeds | None = None,
        on_applied: Callable[[Slot, Sequence[Command[Any] | Series[Any] | None]], None] | None = None,
    ) -> None:
        self.node = node
        self.engine = engine
        self.state = state
        self.disk = disk
        self.network = network
        self.clients = clients
        self.shell = shell
        self.addresses = addresses
        self.snapshot_every = snapshot_every
        self.snapshot = snapshot
        """The newest durable snapshot."""
        self.peers: dict[NodeId, PeerSeen] = dict(peers or {})
        """What each peer's data directory was like when last heard of."""
        self.message_type: Any = engine.message_type | TransferMessage
        """All messages between nodes, for the codec."""
        self.last_record = last_record
        """Number of the last record handed to the disk."""
        self.write_no = 0
        self.durable_write_no = 0
        self.disk_state = DiskState.GOOD
        self.requests = 0
        self.stopped = False
        self._writes: deque[tuple[int, int, int, int]] = deque()  # (write_no, engine's number, last record, bytes)
        self._unwritten_bytes = 0
        self._is_disk_behind = False
        self._durable_record = last_record
        self._held: deque[tuple[int, tuple[NodeId, ...], Any]] = deque()  # messages that wait for an engine write
        self._own_records: list[Record] = []  # the driver's, for the next write
        self._after: deque[tuple[int, Callable[[], None]]] = deque()  # (write_no, what to do once it is durable)
        self._raws: list[bytes] = []
        self._commands: list[Command[Any] | Series[Any] | None] = []
        self._raw_bytes = 0
        self._meter = meter
        self._clock = clock
        self._stamp = time.stamp if time is not None and time.stamps else None
        self._due = time.due if time is not None and time.has_deadlines else None
        self._feeds = feeds
        self._on_applied = on_applied
        # Runs of ours, so that they are not decoded twice, and when they came.
        self._decoded: dict[bytes, tuple[list[Command[Any] | Series[Any] | None], float]] = {}
        self._decoded_commands = 0
        self._served_ms: int | None = None
        self._engine_persisted = 0
        self._now_ms = 0
        self._picture: Picture | None = None
        self._picture_from = 0.0
        self._hashing: Picture | None = None
        self._quiet_slot = NO_SLOT
        self._quiet_ms = 0
        self._digest = (NO_SLOT, "", "")  # slot, digest of the state, coverage
        self._own_part: OwnPart | None = cast(OwnPart, engine) if hasattr(engine, "snapshot_part") else None
        self._barrier_ms: int | None = None
        self._picture_pieces = 0
        self._snapshot_asked = False
        self._bytes_since_snapshot = 0
        self._noted: dict[NodeId, int] = {seen.node: seen.progress for seen in self.peers.values()}
        self._incoming: Incoming | None = None
        self._avoid: tuple[NodeId, Slot, int] = (NO_NODE, NO_SLOT, 0)  # whose snapshot of which slot until when
        self._installing: Slot = NO_SLOT
        self._progress_ms = 0
        self._other_peers = tuple(sorted(other for other in addresses if other != node))

    # Inputs

    def on_message(self, src: NodeId, message: Any) -> None:
        """Take a message from peer `src`."""
        match message:
            case SnapshotOffer() | SnapshotRequest() | SnapshotData() | SnapshotGone() | Progress():
                self._on_transfer(message)
            case _:
                self.engine.on_message(src, message)
        self.shell.flush_soon()

    def on_request(self, raw: bytes, command: Command[Any] | Series[Any]) -> None:
        """Take a client's command. `raw`: its bytes, exactly as they came."""
        self.requests += 1
        if not self.engine.takes_commands:
            self.clients.reply(command.client, self.direction(command.client, command.seq))
            return
        if type(command) is Series:
            self._propose()
            commands: list[Command[Any] | Series[Any] | None] = [command, *[None] * (len(command.ops) - 1)]
            self._hand_over(as_run(raw, command), commands, is_whole=True)
            self.shell.flush_soon()
            return
        if self._stamp is not None:
            raw, command = self._stamp(command)
        if self._raw_bytes + len(raw) > RUN_BYTES_MAX:
            self._propose()
        self._raws.append(raw)
        self._commands.append(command)
        self._raw_bytes += len(raw)
        self.shell.flush_soon()

    def on_persisted(self, write_no: int) -> None:
        """All writes up to `write_no` are durable."""
        self.durable_write_no = max(self.durable_write_no, write_no)
        engine_no = 0
        while self._writes and self._writes[0][0] <= write_no:
            _, number, self._durable_record, size = self._writes.popleft()
            self._unwritten_bytes -= size
            engine_no = max(engine_no, number)
        if engine_no:
            self._engine_persisted = engine_no
            self.engine.on_persisted(engine_no)
        while self._after and self._after[0][0] <= write_no:
            self._after.popleft()[1]()
        self.shell.flush_soon()

    def on_tick(self, now_ms: int) -> None:
        """Time, in milliseconds of a monotonic clock; every TICK_MS."""
        self._now_ms = now_ms
        self._watch_disk()
        self.engine.on_tick(now_ms)
        if self._due is not None and self.engine.takes_commands:
            for raw, command in self._due(now_ms, self.state.birth):
                self.on_request(raw, command)
        if self.disk_state is not DiskState.FULL:
            self._take_snapshot_further()
        self._propose_barrier_if_due()
        self._chase_incoming()
        self._hash_when_quiet()
        if now_ms - self._progress_ms >= PROGRESS_MS:
            self._progress_ms = now_ms
            self.network.send(self._other_peers, Progress(self.node, self._durable_record, *self._digest))
        self.shell.flush_soon()

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The connection to `node` changed."""
        self.engine.on_link(node, state)
        self.shell.flush_soon()

    def on_disk(self, state: DiskState) -> None:
        """The disk changed."""
        self.disk_state = state
        self._tell_disk()
        self.shell.flush_soon()

    # What the shell asks

    @property
    def leader(self) -> NodeId:
        """The node that takes commands; NO_NODE when none is known."""
        return self.engine.leader

    @property
    def coverage(self) -> str:
        """Names the set of commands that was applied, where the number of them does not say which; else empty."""
        return "" if self._own_part is None else self._own_part.coverage()

    @property
    def durable_record(self) -> int:
        """Number of the last record that is durable: what this node may tell its peers of its log."""
        return self._durable_record

    @property
    def is_congested(self) -> bool:
        """So many commands are under way here that clients should not be read now."""
        waiting = self.engine.waiting + len(self._raws)
        return waiting >= PROPOSALS_MAX // 2 or self._unwritten_bytes >= WRITES_QUEUED_BYTES_MAX // 4

    def direction(self, client: ClientId | int, seq: int) -> Reply:
        """Where `client` should go instead: Redirect, or NoLeader when this node knows nobody who takes commands."""
        leader = self.engine.leader
        client = ClientId(client)
        if self.disk_state is DiskState.FULL and leader in (self.node, NO_NODE):
            return Refused(client, seq, "disk-full", f"the disk of node {self.node} is full; nothing was changed")
        if leader in (self.node, NO_NODE):
            if self._own_part is not None:
                return NoLeader(client, seq, RETRY_AFTER_MS, f"node {self.node} cannot serve now; ask another one")
            return NoLeader(client, seq, RETRY_AFTER_MS, f"node {self.node} knows no leader at the moment")
        return Redirect(client, seq, leader, self.addresses[leader])

    def peer_guard(self, node: NodeId, identity: str, progress: int) -> str | None:
        """Check a peer's data directory against what this node knows of it. Returns what is wrong, or None.

        A node that lost records has forgotten promises: letting it vote could undo a decision. [Rule 53]
        """
        seen = self.peers.get(node)
        if seen is not None and seen.identity != identity:
            return (
                f"node {node} comes with another data directory than before: "
                "what it had promised there is lost, so it may not take part under its old id"
            )
        if seen is not None and seen.progress > progress:
            return (
                f"node {node} comes with an older data directory: it had written {seen.progress} records "
                f"and now has {progress}, so it may have forgotten promises"
            )
        self._note_peer(PeerSeen(node, identity, progress))
        return None

    def status(self) -> dict[str, Any]:
        """What the engine and the state say of themselves, for /status."""
        engine, state, snapshot = self.engine, self.state, self.snapshot
        return {
            "engine": engine.name,
            "application": state.application.name,
            **engine.status(),
            "leader": engine.leader,
            "leader_address": self.addresses.get(engine.leader),
            "adu": engine.adu,
            "applied": state.applied,
            "ready": engine.is_ready,
            "snapshot": None if snapshot is None else {"slot": snapshot.slot, "pieces": snapshot.pieces},
            "sessions": len(state.sessions),
            "commands": {
                "applied": state.commands_applied,
                "noops": state.noops,
                "duplicates": state.duplicates,
            },
        }

    def take_snapshot(self) -> None:
        """Take a snapshot soon, whatever the interval says."""
        self._snapshot_asked = True

    def stop(self) -> None:
        """Clean stop: hand leadership over. The shell flushes, and closes the disk when all writes are durable."""
        self.stopped = True
        self.engine.resign("stopping")
        self.shell.flush_soon()

    def _watch_disk(self) -> None:
        """A disk that falls behind without end counts as full until it has caught up: no votes, no proposals."""
        if self._unwritten_bytes >= WRITES_QUEUED_BYTES_MAX // 2:
            self._is_disk_behind = True
        elif self._unwritten_bytes < WRITES_QUEUED_BYTES_MAX // 8:
            self._is_disk_behind = False
        self._tell_disk()

    def _tell_disk(self) -> None:
        self.engine.on_disk(DiskState.FULL if self._is_disk_behind else self.disk_state)

    # The turn

    def flush(self) -> None:
        """Do everything this turn's inputs have led to."""
        self._propose()
        out = self.engine.take_output()
        self._write(out)
        send = self.network.send
        for receivers, message in out.sends:
            send(receivers, message)
        self._held.extend(out.sends_after)
        while self._held and self._held[0][0] <= self._engine_persisted:
            _, receivers, message = self._held.popleft()
            send(receivers, message)
        for run in out.decided:
            self._apply(run.slot, run.count, run.body)
        for returned in out.returned:
            self._hand_back(returned)
        for event in out.events:
            self.shell.on_event(event)
        for peer in out.snapshot_wanted_by:
            self._offer(peer)
        if out.is_snapshot_stale:
            self._snapshot_asked = True
        if self._feeds is not None:
            self._feeds.push()

    def _propose(self) -> None:
        if not self._raws:
            return
        body, commands = b"".join(self._raws), self._commands
        self._raws, self._commands, self._raw_bytes = [], [], 0
        self._hand_over(body, commands)

    def _hand_over(
        self, body: bytes, commands: list[Command[Any] | Series[Any] | None], *, is_whole: bool = False
    ) -> None:
        self._take_decoded(body)  # the same bytes may wait already: a client repeats itself
        self._decoded[body] = commands, self._clock()
        self._decoded_commands += len(commands)
        while self._decoded_commands > DECODED_MAX:  # runs that the window cut or joined come back under other bytes
            self._take_decoded(next(iter(self._decoded)))
        self.engine.on_propose(Batch(body, len(commands), is_whole))

    def _take_decoded(self, body: bytes) -> tuple[list[Command[Any] | Series[Any] | None], float] | None:
        decoded = self._decoded.pop(body, None)
        if decoded is not None:
            self._decoded_commands -= len(decoded[0])
        return decoded

    def _write(self, out: Output) -> None:
        records = out.records
        if self._own_records:
            # Truncated comes last: whatever is to survive it is written before.
            records = [*self._own_records, *records]
            self._own_records = []
        if not records:
            return
        self.write_no += 1
        self.last_record += sum(not isinstance(record, SnapshotPiece | SnapshotTaken | Truncated) for record in records)
        size = sum(map(size_of_values, out.records))
        self._unwritten_bytes += size
        self._writes.append((self.write_no, out.write_no if out.records else 0, self.last_record, size))
        self.disk.submit(self.write_no, records)

    def _apply(self, slot: Slot, count: int, body: bytes) -> None:
        meter = self._meter
        decoded = self._take_decoded(body)
        start = self._clock()
        if decoded is not None:
            commands = decoded[0]
            if meter is not None:
                meter.on_commit(start - decoded[1])
        else:
            try:
                commands = self.state.decoder.decode(array_of(body, count))
            except msgspec.DecodeError as error:
                self.shell.stop(f"the commands decided from slot {slot} on cannot be read: {error}")
                raise
        self._bytes_since_snapshot += len(body)
        results = self.state.apply(slot, commands)
        if meter is not None:
            meter.on_apply(self._clock() - start)
        if self._on_applied is not None:
            self._on_applied(slot, commands)
        if self._feeds is not None and self._feeds.is_followed:
            self._feeds.on_applied(commands, results)
        connected = self.clients.connected
        if not connected:
            return
        reply = self.clients.reply
        for command, result in zip(commands, results, strict=True):
            if command is not None and command.client in connected:
                if type(result) is Refusal:
                    reply(command.client, Refused(command.client, command.seq, result.reason, result.text))
                elif type(command) is Series:
                    reply(command.client, Answers(command.client, command.seq, cast(Any, msgspec.Raw(result))))
                else:
                    reply(command.client, Answer(command.client, command.seq, result))

    def _hand_back(self, returned: Returned) -> None:
        """Tell the clients of commands that this node no longer drives what it knows of them, and where to go."""
        body, count = returned.batch.body, returned.batch.count
        decoded = self._take_decoded(body)
        commands = self.state.decoder.decode(array_of(body, count)) if decoded is None else decoded[0]
        verb = "leads" if self._own_part is None else "serves"
        for command in commands:
            if command is None or command.client < 0:
                continue
            client, seq = command.client, command.seq
            answer: Reply
            if returned.proposed:
                answer = Unknown(
                    client, seq, f"node {self.node} no longer {verb}; repeat the request, with the same seq"
                )
            elif returned.reason == "overloaded":
                answer = Refused(client, seq, "overloaded", f"node {self.node} has {PROPOSALS_MAX} requests under way")
            elif returned.reason == "disk-full":
                answer = Refused(client, seq, "disk-full", f"the disk of node {self.node} is full; nothing was changed")
            else:
                answer = self.direction(client, seq)
            self.clients.reply(client, answer)

    # Snapshots

    def _take_snapshot_further(self) -> None:
        if self._picture is None:
            last = NO_SLOT if self.snapshot is None else self.snapshot.slot
            slots = self.state.applied - last
            if self._installing != NO_SLOT or not slots:
                return
            is_serving = self._served_ms is not None and self._now_ms - self._served_ms < SERVING_MS
            if is_serving and self._bytes_since_snapshot < LOG_BYTES_KEPT_MAX:
                return
            if not (
                self._snapshot_asked
                or slots >= self.snapshot_every
                or self._bytes_since_snapshot >= LOG_BYTES_KEPT_MAX // 2
            ):
                return
            self._snapshot_asked = False
            self._bytes_since_snapshot = 0
            self._picture = self.state.photograph()
            if self._own_part is not None:
                self._picture.add_engine_part(self._own_part.snapshot_part())
            self._picture_pieces = 0
            self._picture_from = self._clock()
        piece = self._picture.next_piece()
        slot = self._picture.slot
        if piece is not None:
            self._own_records.append(SnapshotPiece(slot, self._picture_pieces, piece))
            self._picture_pieces += 1
            return
        taken = SnapshotTaken(slot, self._picture_pieces, self._picture.digest())
        self._picture = None
        self._own_records.append(taken)
        begun = self._picture_from
        self._once_written(lambda: self._snapshot_is_durable(taken, begun))

    def _snapshot_is_durable(self, taken: SnapshotTaken, begun: float) -> None:
        if self._meter is not None:
            self._meter.on_snapshot(self._clock() - begun)
        if self.snapshot is None or taken.slot > self.snapshot.slot:
            self.snapshot = taken
            self._own_records.extend(self.peers.values())
            self.engine.on_snapshot(taken.slot)

    def _once_written(self, action: Callable[[], None]) -> None:
        """Do `action` when the records gathered so far are durable."""
        self._after.append((self.write_no + 1, action))

    def _propose_barrier_if_due(self) -> None:
        """End a generation of sessions: one replica after the other may propose it, so that few do at once."""
        if not self.state.wants_barrier:
            self._barrier_ms = None
            return
        if self._barrier_ms is None:
            nodes = sorted(self.addresses)
            rank = (nodes.index(self.node) - self.state.birth) % len(nodes)
            self._barrier_ms = self._now_ms + rank * BARRIER_STEP_MS
        if self._now_ms >= self._barrier_ms and self.engine.takes_commands:
            self._barrier_ms = self._now_ms + len(self.addresses) * BARRIER_STEP_MS
            self.engine.on_propose(Batch(BARRIER, 1))

    # State transfer

    def _on_transfer(self, message: TransferMessage) -> None:
        match message:
            case SnapshotOffer():
                self._on_offer(message)
            case SnapshotRequest(sender=sender, slot=slot, index=index):
                if self.snapshot is not None and self.snapshot.slot == slot and index < self.snapshot.pieces:
                    self.disk.read_piece(slot, index, lambda data: self._send_piece(sender, slot, index, data))
                else:
                    self._offer(sender)
            case SnapshotData():
                incoming = self._incoming
                if incoming is not None and incoming.on_data(message, self._now_ms):
                    self._continue_incoming(incoming)
            case SnapshotGone(sender=sender, slot=slot):
                incoming = self._incoming
                if incoming is not None and (incoming.offer.sender, incoming.offer.slot) == (sender, slot):
                    self._incoming = None
                    self._avoid = sender, slot, self._now_ms + AVOID_MS
            case Progress(sender=sender, last=last, slot=slot, digest=digest, coverage=coverage):
                if (slot, coverage) == (self._digest[0], self._digest[2]) and digest != self._digest[1]:
                    self.shell.on_event(StateDiverged(sender, slot))
                seen = self.peers.get(sender)
                if seen is not None and last > seen.progress:
                    self._note_peer(PeerSeen(sender, seen.identity, last))

    def _hash_when_quiet(self) -> None:
        """When nothing was applied for a while, take the digest of the state, a little each tick, to compare it."""
        applied = self.state.applied
        if applied != self._quiet_slot:
            self._quiet_slot, self._quiet_ms = applied, self._now_ms
            if self._hashing is not None:
                self._hashing.release()
                self._hashing = None
        elif self._digest[0] != applied and self._now_ms - self._quiet_ms >= QUIET_MS:
            if self._hashing is None:
                self._hashing = self.state.photograph()
            if self._hashing.next_piece() is None:
                self._digest = applied, self._hashing.digest(), self.coverage
                self._hashing = None

    def _note_peer(self, seen: PeerSeen) -> None:
        """Remember how far a peer's log is; durably at the first meeting and then once in PROGRESS_STEP records."""
        known = self.peers.get(seen.node)
        self.peers[seen.node] = seen
        if known is None or seen.progress >= self._noted.get(seen.node, 0) + PROGRESS_STEP:
            self._noted[seen.node] = seen.progress
            self._own_records.append(seen)
            self.shell.flush_soon()

    def _offer(self, peer: NodeId) -> None:
        if self.snapshot is not None:
            taken = self.snapshot
            self.network.send((peer,), SnapshotOffer(self.node, taken.slot, taken.pieces, taken.digest))

    def _send_piece(self, peer: NodeId, slot: Slot, index: int, data: bytes | None) -> None:
        if data is not None:
            self._served_ms = self._now_ms
            self.network.send((peer,), SnapshotData(self.node, slot, index, data))
        elif self.snapshot is not None and self.snapshot.slot > slot:
            self._offer(peer)
        else:
            self.take_snapshot()  # this one may have rotted: replace it
            self.network.send((peer,), SnapshotGone(self.node, slot))

    def _on_offer(self, offer: SnapshotOffer) -> None:
        if offer.slot <= self.state.applied or self._installing != NO_SLOT:
            return
        avoided, slot, until_ms = self._avoid
        if (offer.sender, offer.slot) == (avoided, slot) and self._now_ms < until_ms:
            return
        if self._incoming is not None:
            same = self._incoming.offer.sender == offer.sender
            if not same or self._incoming.offer == offer:
                return
        self._incoming = Incoming(offer, self._now_ms)
        self._continue_incoming(self._incoming)

    def _continue_incoming(self, incoming: Incoming) -> None:
        offer = incoming.offer
        if offer.slot <= self.state.applied:
            self._incoming = None
        elif not incoming.is_complete:
            request = SnapshotRequest(self.node, offer.slot, len(incoming.pieces))
            self.network.send((offer.sender,), request)
        else:
            self._incoming = None
            self._write_incoming(offer, incoming.pieces)

    def _write_incoming(self, offer: SnapshotOffer, pieces: list[bytes]) -> None:
        """All or nothing: the whole is checked before a byte is written, and written before it is installed."""
        try:
            if digest_of(offer.slot, pieces) != offer.digest:
                return  # damaged on the way: the laggard will ask again
            if self._own_part is not None and not self._own_part.accepts_snapshot(engine_part_of(pieces)):
                return  # it lacks what was executed here: a later one will have it
        except SnapshotError:
            return
        if self._picture is not None:
            self._picture.release()
            self._picture = None
        taken = SnapshotTaken(offer.slot, len(pieces), offer.digest)
        self._installing = offer.slot
        self._write_portion(taken, pieces, 0)

    def _write_portion(self, taken: SnapshotTaken, pieces: list[bytes], index: int) -> None:
        """Write pieces from `index` on, one commit's worth at a time. They count only once `taken` is written."""
        size = 0
        while index < len(pieces) and size < COMMIT_BYTES_MAX:
            self._own_records.append(SnapshotPiece(taken.slot, index, pieces[index]))
            size += len(pieces[index])
            index += 1
        if index < len(pieces):
            self._once_written(lambda: self._write_portion(taken, pieces, index))
        else:
            self._own_records.append(taken)
            self._once_written(lambda: self._install(taken, pieces))
        self.shell.flush_soon()

    def _install(self, taken: SnapshotTaken, pieces: list[bytes]) -> None:
        self.flush()  # what the engine has decided meanwhile belongs to the state before it is replaced
        self._installing = NO_SLOT
        self.snapshot = taken
        self._bytes_since_snapshot = 0
        part = engine_part_of(pieces)
        if self._own_part is not None and not self._own_part.accepts_snapshot(part):
            return  # more was executed here meanwhile; the snapshot stays good for a restart
        if taken.slot > self.state.applied:
            self.state.install(taken.slot, pieces, taken.digest)
            if self._feeds is not None:
                self._feeds.on_installed()
        self._own_records.extend(self.peers.values())
        if self._own_part is not None:
            self._own_part.on_installed(taken.slot, part)
        else:
            self.engine.on_installed(taken.slot)

    def _chase_incoming(self) -> None:
        incoming = self._incoming
        if incoming is not None and incoming.is_overdue(self._now_ms):
            if incoming.is_hopeless:
                self._incoming = None
            else:
                self._continue_incoming(incoming)
