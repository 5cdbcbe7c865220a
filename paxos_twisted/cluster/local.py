"""A cluster on this machine: real processes, real disks, one directory.

DIR/cluster.yml  DIR/secret     configuration, made by `create`
DIR/data/1 …                    data directories
DIR/logs/node-1.log …           what the nodes print
DIR/processes.json              which processes are ours
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from types import TracebackType
from typing import Final, Self

from paxos_twisted.cluster.memory import recall, remembering
from paxos_twisted.cluster.ports import are_free, free_ports
from paxos_twisted.cluster.processes import FROZEN, GONE, RUNNING, Process, identify, spawn
from paxos_twisted.ctl.agreement import LEADERLESS
from paxos_twisted.ctl.node_api import NodeError, NodeStatus, NodeUnreachable, all_statuses, apis_of, who_leads
from paxos_twisted.node.config import load, make_config
from paxos_twisted.node.secret import new_secret
from paxos_twisted.storage.directory import create as create_data_directory
from paxos_twisted.types import NodeId

CONFIG: Final = "cluster.yml"
SECRET: Final = "secret"

READY_S: Final = 30.0
"""A node is ready within a second of its start; a busy machine gets this long."""

STOP_S: Final = 10.0
"""A clean stop takes a fraction of a second; then the process is killed."""

POLL_S: Final = 0.02
LOG_LINES_SHOWN: Final = 8


class ClusterError(Exception):
    """The cluster did not do what was asked. The text is a sentence for people."""


class LocalCluster:
    """The nodes of one directory. As a context manager it leaves no process behind.

    Calls block, a few milliseconds unless they say that they wait. Nodes that die with us (the default) must be started
    by a thread that lives as long as they do: the main thread.
    """

    def __init__(self, directory: str | os.PathLike[str], *, dies_with_us: bool = True) -> None:
        """Open a directory that `create` has made.

        Raises:
            ConfigError: its configuration cannot be used.
        """
        self.directory = Path(directory).absolute()
        self.config_path = self.directory / CONFIG
        self.config = load(self.config_path)
        self.members = self.config.members
        self.apis = apis_of(self.config)
        self._dies_with_us = dies_with_us
        self._children: dict[NodeId, subprocess.Popen[bytes]] = {}
        self.options: dict[NodeId, list[str]] = {}
        """Further options of nodes, from their next start on."""

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        f: int = 1,
        *,
        engine: str = "multipaxos",
        application: str = "bank",
        profile: str = "default",
        name: str = "local",
        base_port: int | None = None,
        nodes: int | None = None,
        more: str = "",
        dies_with_us: bool = True,
    ) -> Self:
        """Make the configuration and the data directories of a new cluster of 2f+1 nodes. Nothing is started.

        Args:
            nodes: how many, instead of 2f+1; see `make_config`.
            engine, application: by name; which there are, the registries say.
            base_port: take ports from here on if they are free; otherwise, and by default, any that are.
            more: further lines of the configuration.

        Raises:
            ClusterError: there is a cluster in this directory already.
            ConfigError, ValueError: the configuration would not be usable.
            OSError: the directory cannot be written, or there are no free ports.
        """
        folder = Path(directory).absolute()
        path = folder / CONFIG
        if path.exists():
            raise ClusterError(f"{path} exists: there is a cluster in this directory already")
        for part in (folder, folder / "data", folder / "logs"):
            part.mkdir(parents=True, exist_ok=True)
        with open(os.open(folder / SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(new_secret() + "\n")
        text = make_config(
            f,
            cluster=name,
            engine=engine,
            application=application,
            profile=profile,
            ports=_ports(2 * f + 1 if nodes is None else nodes, base_port),
            nodes=nodes,
            secret_file=SECRET,
            more=more,
        )
        path.write_text(text, encoding="utf-8")
        cluster = cls(folder, dies_with_us=dies_with_us)
        for node in cluster.config.nodes:
            create_data_directory(node.data_dir, cluster.config.shared.cluster, node.id)
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()

    # What is there

    def process(self, node: NodeId) -> Process | None:
        """The newest process of a node; it may have ended. None: it was never started."""
        return recall(self.directory).nodes.get(node)

    def state(self, node: NodeId) -> str:
        """GONE, RUNNING or FROZEN."""
        self._reap(node)
        process = self.process(node)
        return GONE if process is None else process.state

    def alive(self) -> list[NodeId]:
        """Nodes whose process is there, frozen or not."""
        return [node for node in self.members if self.state(node) != GONE]

    def runner(self) -> Process | None:
        """Another living program in the foreground to which the nodes belong."""
        runner = recall(self.directory).runner
        if runner is None or runner.state == GONE or runner.pid == os.getpid():
            return None
        return runner

    def log(self, node: NodeId) -> Path:
        """What the node has printed."""
        return self.directory / "logs" / f"node-{node}.log"

    def statuses(self) -> dict[NodeId, NodeStatus | NodeError]:
        """What every node says of itself. Those whose process is gone or frozen are not asked."""
        states = {node: self.state(node) for node in self.members}
        told = all_statuses({node: self.apis[node] for node, state in states.items() if state == RUNNING})
        silent = {node: NodeUnreachable(f"its process is {state}") for node, state in states.items()}
        return {node: told.get(node, silent[node]) for node in self.members}

    def leader(self, timeout_s: float = READY_S, *, other_than: NodeId | None = None) -> NodeId:
        """Wait until a node says that it leads (another one than `other_than`), and return it.

        Raises:
            ClusterError: none did in time.
        """
        found: NodeId | None = None

        def is_found() -> bool:
            nonlocal found
            found = who_leads(self.statuses().values())
            return found is not None and found != other_than

        self.until(is_found, timeout_s, "no node leads")
        assert found is not None
        return found

    def wait_served(self, timeout_s: float = READY_S) -> None:
        """Wait until clients are served: a node leads, or, where there are no leaders, all are ready.

        Raises:
            ClusterError: not in time.
        """
        if self.config.shared.engine in LEADERLESS:
            self.wait_ready(timeout_s=timeout_s)
        else:
            self.leader(timeout_s)

    # What can be done

    def start(self, *nodes: NodeId) -> None:
        """Start nodes (all, if none is named). Does not wait until they are ready; those that run are left alone.

        Raises:
            OSError: a process cannot be started.
        """
        with remembering(self.directory) as memory:
            for node in nodes or self.members:
                self._reap(node)
                known = memory.nodes.get(node)
                if known is not None and known.state != GONE:
                    continue
                if known is not None:
                    known.wait(STOP_S)  # its ports and its data directory are free
                arguments = ["paxos_twisted.node", "--config", str(self.config_path), "--node-id", str(node)]
                arguments += self.options.get(node, [])
                child, process = spawn(arguments, self.log(node), dies_with_us=self._dies_with_us)
                self._children[node] = child
                memory.nodes[node] = process
                memory.wanted = [other for other in memory.wanted if other != node]
            memory.runner = identify(os.getpid()) if self._dies_with_us else None

    def wait_ready(self, *nodes: NodeId, timeout_s: float = READY_S) -> None:
        """Wait until nodes (all, if none is named) serve.

        Raises:
            ClusterError: one has ended, or is not ready in time; with the end of its log.
        """
        waiting = list(nodes or self.members)
        why: dict[NodeId, str] = {}

        def is_ready() -> bool:
            for node in list(waiting):
                reason = self.apis[node].not_ready()
                if reason is None:
                    waiting.remove(node)
                elif self.state(node) == GONE:
                    raise ClusterError(f"node {node} has ended:\n{self.log_end(node)}")
                else:
                    why[node] = reason
            return not waiting

        try:
            self.until(is_ready, timeout_s, "not ready")
        except ClusterError as error:
            if not waiting or self.state(waiting[0]) == GONE:
                raise
            node = waiting[0]
            raise ClusterError(
                f"node {node} is not ready after {timeout_s:g} s: {why.get(node)}\n{self.log_end(node)}"
            ) from error

    def kill(self, *nodes: NodeId) -> list[NodeId]:
        """kill -9, all at the same moment; waits until they are gone. Returns those that were there."""
        hit = self._signal(nodes, SIGKILL)
        for node in hit:
            self._wait_gone(node, STOP_S)
        return hit

    def kill_all(self) -> None:
        """kill -9 to every node that we have started; frozen ones too."""
        self.kill(*self.members)

    def freeze(self, *nodes: NodeId) -> list[NodeId]:
        """Stop nodes in their tracks (SIGSTOP): their sockets stay open, nobody answers. Returns those hit."""
        return self._signal(nodes, SIGSTOP)

    def thaw(self, *nodes: NodeId) -> list[NodeId]:
        """Let frozen nodes go on (SIGCONT)."""
        return self._signal(nodes, SIGCONT)

    def stop(self, *nodes: NodeId, timeout_s: float = STOP_S) -> list[NodeId]:
        """Ask nodes to stop (SIGTERM): they hand over, finish what is under way, and end. Waits; a node that has not
        ended after `timeout_s` is killed. Returns those that had to be killed."""
        hit = self._signal(nodes, SIGTERM)
        self._signal(nodes, SIGCONT)
        deadline = time.monotonic() + timeout_s
        late = [node for node in hit if not self._wait_gone(node, max(0.0, deadline - time.monotonic()))]
        self.kill(*late)
        return late

    def restart(self, node: NodeId, *, clean: bool = True) -> None:
        """Stop (or kill) a node and start it again. Does not wait until it is ready."""
        if clean:
            self.stop(node)
        else:
            self.kill(node)
        self.start(node)

    def start_wanted(self) -> list[NodeId]:
        """Start what another command has asked for, see `request_start`."""
        wanted = [NodeId(node) for node in recall(self.directory).wanted]
        if wanted:
            self.start(*wanted)
        return wanted

    def request_start(self, node: NodeId) -> None:
        """Start a node: by the runner, if there is one, because the node is to end with it; else by ourselves."""
        if self.runner() is None:
            self.start(node)
            return
        with remembering(self.directory) as memory:
            memory.wanted.append(node)

    def log_end(self, node: NodeId) -> str:
        """The last lines that a node has printed, indented."""
        try:
            lines = self.log(node).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        shown = lines[-LOG_LINES_SHOWN:] or ["(it has printed nothing)"]
        return "\n".join(f"    {line}" for line in shown) + f"\n    (all of it: {self.log(node)})"

    # Inside

    def _signal(self, nodes: Iterable[NodeId], number: Signals) -> list[NodeId]:
        known = recall(self.directory).nodes
        return [node for node in nodes if node in known and known[node].send(number)]

    def _wait_gone(self, node: NodeId, timeout_s: float) -> bool:
        process = self.process(node)
        is_gone = process is None or process.wait(timeout_s)
        self._reap(node)
        return is_gone

    def _reap(self, node: NodeId) -> None:
        """Take note of a child's end, so that nothing of it is left in the table of processes."""
        child = self._children.get(node)
        if child is not None and child.poll() is not None:
            del self._children[node]

    def until(self, is_done: Callable[[], bool], timeout_s: float, trouble: str) -> None:
        """Wait until something is so.

        Raises:
            ClusterError: it is not, in time; with `trouble`.
        """
        deadline = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() >= deadline:
                raise ClusterError(f"{trouble} after {timeout_s:g} s (logs: {self.directory / 'logs'})")
            time.sleep(POLL_S)


def _ports(count: int, base_port: int | None) -> list[tuple[int, int]]:
    """(port, HTTP port) of each node."""
    if base_port is not None:
        pairs = [(base_port + i, base_port + 100 + i) for i in range(1, count + 1)]
        if are_free([port for pair in pairs for port in pair]):
            return pairs
    ports = free_ports(2 * count)
    return list(zip(ports[:count], ports[count:], strict=True))


__all__ = ["FROZEN", "GONE", "RUNNING", "ClusterError", "LocalCluster"]
