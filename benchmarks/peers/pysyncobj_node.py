"""One PySyncObj node: `python -m benchmarks.peers.pysyncobj_node DURABILITY DIRECTORY CONTROL SELF OTHER…`.

DURABILITY:
    memory   no journal: what PySyncObj does when no file is named.
    journal  its journal file: memory-mapped, never synced. A killed process loses nothing, a power failure does.
    synced   the journal, synced before anything is said that speaks for it: the durability of the other systems.

PySyncObj's Python API is the only protocol it has: a process that writes is a node itself (SELF `-`: one without a
vote). So the closed loops run inside a node: orders come in on the local port CONTROL, JSON, one a line, and so go
the reports out.
"""

import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.transport import TCPTransport

MEMORY, JOURNAL, SYNCED = "memory", "journal", "synced"
NO_VOTE = "-"

PERIOD_S = 0.005
"""Between two messages to the others. PySyncObj's default, 0.1 s, makes every command wait that long."""
TICK_S = 0.005
"""How long a node waits for something to happen before it looks at its clock."""
PATIENCE_S = 30.0

SPEAKING = frozenset({"append_entries", "next_node_idx"})
"""Messages that say "this is in my journal": the leader's (its own vote counts at once) and the follower's."""


class Order(msgspec.Struct):
    """What to do."""

    kind: str
    """leader, load or outage."""
    loops: int = 1
    keys: int = 1
    """load: over which the commands go round; outage: each loop has its own."""
    value_bytes: int = 16
    seconds: float = 0.0
    """load: how long; outage: how long at most."""
    after: int = 0
    """outage: successes of each loop after the mark that end it. The mark is one byte, sent when the leader dies."""


class Report(msgspec.Struct):
    """What came out."""

    leader: str | None = None
    """host:port."""
    seconds: float = 0.0
    rtts_s: list[float] = []
    moments: list[list[float]] = []
    """outage: of each loop, when it was served, by time.perf_counter, which all processes of a machine share."""
    trouble: str | None = None


class _Sync:
    """A transport that syncs what has been added to the journal before it speaks for it."""

    def __init__(self) -> None:
        self.journal: Any = None
        self.is_behind = False

    def transport(self, sync_obj: Any, self_node: Any, others: Any) -> Any:
        """Given to PySyncObj as the class of its transport."""
        made = TCPTransport(sync_obj, self_node, others)
        send = made.send

        def synced_send(node: Any, message: Any) -> Any:
            if self.is_behind and message["type"] in SPEAKING:
                self.is_behind = False
                self.journal.flush()
            return send(node, message)

        made.send = synced_send
        return made

    def watch(self, journal: Any) -> None:
        """Note every record that is added from now on."""
        self.journal = journal
        add = journal.add

        def watched_add(*record: Any) -> None:
            self.is_behind = True
            add(*record)

        journal.add = watched_add


class Node:
    """A node, and the loops that run in it."""

    def __init__(self, durability: str, directory: str, own: str, others: list[str]) -> None:
        more: dict[str, Any] = {} if durability == MEMORY else {"journalFile": str(Path(directory) / "journal")}
        if own != NO_VOTE:
            more["bindAddress"] = own  # the default is every address of the machine
        conf = SyncObjConf(autoTick=False, appendEntriesPeriod=PERIOD_S, connectionRetryTime=0.1, **more)
        self.values = ReplDict()
        sync = _Sync()
        transport = sync.transport if durability == SYNCED else TCPTransport
        name = None if own == NO_VOTE else own
        self.node: Any = SyncObj(name, others, conf, [self.values], transportClass=transport)
        if durability == SYNCED:
            sync.watch(self.node._SyncObj__raftLog)  # there is no public way to the journal

    def serve(self, control: socket.socket) -> None:
        """Tick until killed, and take orders."""
        waiting = False

        def note(descriptor: int, event: int) -> None:
            nonlocal waiting
            waiting = True

        self.node._poller.subscribe(control.fileno(), note, POLL_EVENT_TYPE.READ)
        while True:
            self.node.doTick(TICK_S)
            if waiting:
                waiting = False
                with control.accept()[0] as connection, connection.makefile("rwb") as file:
                    self._obey(connection, file)

    def _obey(self, connection: socket.socket, file: Any) -> None:
        """One connection brings one order."""
        order = msgspec.json.decode(file.readline(), type=Order)
        if order.kind == "leader":
            leader = self.node._getLeader()
            report = Report(leader=None if leader is None else leader.address)
        elif order.kind == "load":
            report = self._load(order)
        else:
            report = self._outage(order, connection)
        file.write(msgspec.json.encode(report) + b"\n")

    def _load(self, order: Order) -> Report:
        """A closed loop of `order.loops` commands in flight."""
        value, rtts, errors = "v" * order.value_bytes, list[float](), list[int]()
        open_requests = key = 0

        def submit() -> None:
            nonlocal open_requests, key
            open_requests += 1
            key = (key + 1) % order.keys
            sent_at = time.perf_counter()

            def answered(_: object, error: int) -> None:
                nonlocal open_requests
                open_requests -= 1
                now = time.perf_counter()
                if error != FAIL_REASON.SUCCESS:
                    errors.append(error)
                    return
                rtts.append(now - sent_at)
                if now < deadline:
                    submit()

            self.values.set(f"k{key:04d}", value, callback=answered)

        start = time.perf_counter()
        deadline = start + order.seconds
        for _ in range(order.loops):
            submit()
        while open_requests and not errors and time.perf_counter() < deadline + PATIENCE_S:
            self.node.doTick(TICK_S)
        seconds = time.perf_counter() - start
        if errors:
            return Report(trouble=f"PySyncObj refuses a command: reason {errors[0]}")
        if open_requests:
            return Report(trouble=f"PySyncObj has not answered {open_requests} commands")
        return Report(seconds=seconds, rtts_s=rtts)

    def _outage(self, order: Order, connection: socket.socket) -> Report:
        """Loops that begin again at once when they are refused, until all are served again after the mark."""
        moments: list[list[float]] = [[] for _ in range(order.loops)]

        def submit(loop: int) -> None:
            def answered(_: object, error: int) -> None:
                if error == FAIL_REASON.SUCCESS:
                    moments[loop].append(time.perf_counter())
                if not is_over:
                    submit(loop)

            self.values.set(f"k{loop:04d}", "v" * order.value_bytes, callback=answered)

        is_over = False
        for loop in range(order.loops):
            submit(loop)
        marked_at: float | None = None
        deadline = time.perf_counter() + order.seconds
        while not is_over:
            self.node.doTick(TICK_S)
            if marked_at is None and select.select([connection], [], [], 0)[0]:
                connection.recv(1)
                marked_at = time.perf_counter()
            is_back = marked_at is not None and all(
                len(served) > order.after and served[-order.after] > marked_at for served in moments
            )
            is_over = is_back or time.perf_counter() >= deadline
        return Report(moments=moments, trouble=None if is_back else "not every loop was served again")


def main() -> None:
    """Run until killed."""
    durability, directory, port, own, *others = sys.argv[1:]
    with socket.create_server(("127.0.0.1", int(port))) as control:
        Node(durability, directory, own, others).serve(control)


if __name__ == "__main__":
    main()
