"""What the comparison asks of a system: some nodes on this machine, load on them, and the death of their leader."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from benchmarks.load import Session, run_load
from benchmarks.outage import run_outage
from benchmarks.sample import Sample

READY_S = 60.0
"""A JVM on a busy machine takes seconds; more than this is a fault."""
TIMEOUT_S = 10.0
"""For one connection's handshake."""

Address = tuple[str, int]


class PeerError(Exception):
    """The system did not do what was asked. The text is a sentence."""


class System(ABC):
    """The nodes of one system, numbered from 1. `start` … `stop` may be repeated."""

    name: ClassVar[str]
    """As it is typed on the command line."""
    title: ClassVar[str]
    """As the tables show it."""
    has_values: ClassVar[bool] = True
    """Whether the size of what is written can be chosen."""
    has_batches: ClassVar[bool] = False
    """Whether `load_batches` works."""
    warm_up_s: ClassVar[float] = 2.0
    """Load before the first measurement of a turn."""

    def __init__(self, nodes: int = 3) -> None:
        self.nodes = nodes

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """A sentence that says why it cannot run here and what to do; None: it can."""

    @abstractmethod
    def version(self) -> str:
        """Of the program and of what it runs on."""

    @abstractmethod
    def settings(self) -> list[str]:
        """What differs from the defaults, and what durability that means; one sentence each."""

    @abstractmethod
    def command(self) -> str:
        """How node 1 was started last."""

    @abstractmethod
    def start(self, directory: Path) -> None:
        """Start the nodes, which keep everything below `directory` (empty), and wait until they serve.

        Raises:
            PeerError: they do not.
        """

    @abstractmethod
    def stop(self) -> None:
        """End every process. Never raises for one that has ended already."""

    @abstractmethod
    def restart(self, node: int) -> None:
        """Start a killed node again, and wait until all nodes serve.

        Raises:
            PeerError: they do not.
        """

    @abstractmethod
    def leader(self) -> int:
        """Wait until a node leads.

        Raises:
            PeerError: none does.
        """

    @abstractmethod
    def kill(self, node: int) -> None:
        """kill -9."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Of the nodes that live."""

    @abstractmethod
    def client_cpu_s(self) -> float | None:
        """CPU time of the load generator so far; None: it cannot be told from that of a node."""

    @abstractmethod
    def load(
        self,
        connections: int,
        outstanding: int,
        value_bytes: int,
        seconds: float,
        at_start: Callable[[], None],
        at_end: Callable[[], None],
    ) -> Sample:
        """A closed loop on the leader, see `benchmarks.load.run_load`.

        Raises:
            LoadError, OSError, PeerError: it did not work.
        """

    def load_batches(
        self,
        connections: int,
        outstanding: int,
        batch: int,
        seconds: float,
        at_start: Callable[[], None],
        at_end: Callable[[], None],
    ) -> Sample:
        """The same with many operations in each request. Only called for systems that have them.

        Raises:
            LoadError, OSError, PeerError: it did not work.
        """
        raise PeerError(f"{self.title} has no batches")

    @abstractmethod
    def outage(self) -> float:
        """Kill the leader under load; the longest gap of a client in seconds, see `benchmarks.outage`.

        Raises:
            OutageError, PeerError: it did not work.
        """


class WireSystem(System):
    """A system whose clients are connections that we write the bytes of ourselves."""

    @abstractmethod
    def addresses(self) -> dict[int, Address]:
        """Where clients connect, of every node."""

    @abstractmethod
    def dial(self, address: Address, timeout_s: float, value_bytes: int, first: int) -> Session:
        """Open a client's connection, which writes keys from number `first` on.

        Raises:
            OSError: nobody is there.
        """

    def client_cpu_s(self) -> float:
        return time.process_time()

    def load(
        self,
        connections: int,
        outstanding: int,
        value_bytes: int,
        seconds: float,
        at_start: Callable[[], None],
        at_end: Callable[[], None],
    ) -> Sample:
        address = self.addresses()[self.leader()]
        dialled = 0

        def dial() -> Session:
            nonlocal dialled
            dialled += 1
            return self.dial(address, TIMEOUT_S, value_bytes, dialled * 7919)  # no two begin with the same key

        return run_load(dial, connections, outstanding, seconds, at_start, at_end)

    def outage(self) -> float:
        leader, addresses = self.leader(), self.addresses()
        return run_outage(
            lambda address, timeout_s: self.dial(address, timeout_s, 16, 0),
            list(addresses.values()),
            addresses[leader],
            lambda: self.kill(leader),
        )
