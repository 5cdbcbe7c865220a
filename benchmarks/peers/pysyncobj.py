"""PySyncObj: PyPI's `pysyncobj`, a Raft library that lives inside the program that uses it."""

import importlib.metadata
import importlib.util
import platform
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.load import KEYS, LoadError
from benchmarks.outage import AFTER, BEFORE_S, CLIENTS, LIMIT_S, OutageError, gap_s
from benchmarks.peers.daemons import Daemons, place
from benchmarks.peers.system import READY_S, PeerError, System
from benchmarks.sample import Sample
from paxos_twisted.cluster.ports import free_ports

PATIENCE_S = 30.0
APART = 0
"""Number of the client's node that has no vote, where there is one."""


class PySyncObjSynced(System):
    """A replicated dictionary; the journal is synced before it is spoken of, as in the other systems."""

    name = "pysyncobj"
    title = "PySyncObj (synced)"
    durability: ClassVar[str] = "synced"
    has_client_node: ClassVar[bool] = True
    """Whether the calls come from a process of their own, as in the other systems, or from inside the leader's."""

    def __init__(self, nodes: int = 3) -> None:
        super().__init__(nodes)
        self._daemons = Daemons(Path())
        self._directory = Path()
        self._ports: dict[int, int] = {}
        self._controls: dict[int, int] = {}

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("pysyncobj") is None:
            return "PySyncObj is not here; pip install pysyncobj (or: pip install --group bench)"
        return None

    def version(self) -> str:
        return f"{importlib.metadata.version('pysyncobj')}, Python {platform.python_version()}"

    def settings(self) -> list[str]:
        kept = {
            "synced": "journal file, synced by us before a node speaks for it: PySyncObj itself never syncs it",
            "journal": "journal file as PySyncObj keeps it: never synced, lost with the power",
            "memory": "nothing is written to disk",
        }[self.durability]
        caller = (
            "calls from one client process, which is a node without a vote"
            if self.has_client_node
            else "calls from inside the leader's process, without any network: its CPU time includes the client's"
        )
        return [
            kept,
            "appendEntriesPeriod=5 ms (the default, 100 ms, makes every single command wait that long)",
            f"ReplDict.set with callbacks; {caller}; connections × outstanding = commands in flight",
        ]

    def command(self) -> str:
        return self._daemons.command

    def start(self, directory: Path) -> None:
        count = self.nodes + self.has_client_node
        ports = free_ports(self.nodes + count)
        self._directory = directory
        self._daemons = Daemons(directory)
        self._ports = dict(enumerate(ports[: self.nodes], 1))
        nodes = [*self._ports, *([APART] if self.has_client_node else [])]
        self._controls = dict(zip(nodes, ports[self.nodes :], strict=True))
        for node in nodes:
            (directory / f"n{node}").mkdir()
            self._start(node)
        self.leader()

    def _start(self, node: int) -> None:
        own = "-" if node == APART else place(self._ports, node)
        others = [place(self._ports, other) for other in self._ports if other != node]
        where, control = str(self._directory / f"n{node}"), str(self._controls[node])
        module = "benchmarks.peers.pysyncobj_node"
        self._daemons.start(node, [sys.executable, "-m", module, self.durability, where, control, own, *others])

    def stop(self) -> None:
        self._daemons.stop()

    def restart(self, node: int) -> None:
        self._start(node)
        self.leader()

    def leader(self) -> int:
        return self._daemons.until(self._agreed_leader, "PySyncObj has no leader")

    def kill(self, node: int) -> None:
        self._daemons.kill(node)

    def pids(self) -> list[int]:
        return self._daemons.pids(besides=APART)

    def client_cpu_s(self) -> float | None:
        return self._daemons.cpu_s(APART) if self.has_client_node else None

    def load(
        self,
        connections: int,
        outstanding: int,
        value_bytes: int,
        seconds: float,
        at_start: Callable[[], None],
        at_end: Callable[[], None],
    ) -> Sample:
        node = APART if self.has_client_node else self.leader()
        at_start()
        report = self._order(
            node,
            {
                "kind": "load",
                "loops": connections * outstanding,
                "keys": KEYS,
                "value_bytes": value_bytes,
                "seconds": seconds,
            },
            seconds + 2 * PATIENCE_S,
        )
        at_end()
        if report.trouble is not None:
            raise LoadError(report.trouble)
        return Sample(len(report.rtts_s), report.seconds, report.rtts_s)

    def outage(self) -> float:
        leader = self.leader()
        follower = APART if self.has_client_node else next(node for node in self._ports if node != leader)
        order = {"kind": "outage", "loops": CLIENTS, "seconds": LIMIT_S, "after": AFTER}
        with self._connection(follower, LIMIT_S + READY_S) as connection:
            connection.sendall(msgspec.json.encode(order) + b"\n")
            time.sleep(BEFORE_S)
            died_at = time.perf_counter()
            self.kill(leader)
            connection.sendall(b"!")
            report = _read(connection)
        if report.trouble is not None:
            raise OutageError(report.trouble)
        ended_at = time.perf_counter()
        return max(gap_s(moments, died_at, ended_at) for moments in report.moments)

    def _agreed_leader(self) -> int | None:
        """The node that all living nodes call leader."""
        said: set[str | None] = set()
        for node in self._controls:
            if self._daemons.is_alive(node):
                try:
                    said.add(self._order(node, {"kind": "leader"}, PATIENCE_S).leader)
                except OSError:
                    return None
        names = {place(self._ports, node): node for node in self._ports}
        return names.get(said.pop() or "") if len(said) == 1 else None

    def _order(self, node: int, order: dict[str, str | int | float], timeout_s: float) -> "_Report":
        with self._connection(node, timeout_s) as connection:
            connection.sendall(msgspec.json.encode(order) + b"\n")
            return _read(connection)

    def _connection(self, node: int, timeout_s: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._controls[node]), timeout=timeout_s)


class _Report(msgspec.Struct):
    """`pysyncobj_node.Report`, which can only be imported where PySyncObj is."""

    leader: str | None
    seconds: float
    rtts_s: list[float]
    moments: list[list[float]]
    trouble: str | None


def _read(connection: socket.socket) -> _Report:
    with connection.makefile("rb") as file:
        line = file.readline()
    if not line:
        raise PeerError("a PySyncObj node has ended in the middle of an order")
    return msgspec.json.decode(line, type=_Report)


class PySyncObjMemory(PySyncObjSynced):
    """Without a journal."""

    name = "pysyncobj-memory"
    title = "PySyncObj (memory)"
    durability = "memory"


class PySyncObjJournal(PySyncObjSynced):
    """With the journal as the library keeps it."""

    name = "pysyncobj-journal"
    title = "PySyncObj (journal)"
    durability = "journal"


class PySyncObjInside(PySyncObjSynced):
    """Synced; called by the leader itself."""

    name = "pysyncobj-inside"
    title = "PySyncObj (synced, inside)"
    has_client_node = False


class PySyncObjMemoryInside(PySyncObjMemory):
    """Without a journal; called by the leader itself."""

    name = "pysyncobj-memory-inside"
    title = "PySyncObj (memory, inside)"
    has_client_node = False
