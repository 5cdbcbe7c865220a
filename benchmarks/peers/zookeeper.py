"""ZooKeeper: Debian's `zookeeper`."""

import shutil
import socket
import subprocess
from contextlib import closing
from functools import cache, partial
from pathlib import Path

from benchmarks.load import KEYS, LoadError
from benchmarks.peers.daemons import Daemons
from benchmarks.peers.jute import JuteSession, set_data_parts
from benchmarks.peers.system import TIMEOUT_S, Address, PeerError, WireSystem
from paxos_twisted.cluster.ports import free_ports

JAR = Path("/usr/share/java/zookeeper.jar")
LOGGING = Path("/etc/zookeeper/conf_example")
"""Debian's log4j.properties: the log goes to a file, as in its service."""

PATHS = [f"/k{i:04d}" for i in range(KEYS)]


@cache
def _writes(value_bytes: int) -> list[tuple[bytes, bytes]]:
    return [set_data_parts(path, b"v" * value_bytes) for path in PATHS]


class ZooKeeper(WireSystem):
    """ZooKeeper as Debian starts it; clients speak its own protocol to the leader."""

    name = "zookeeper"
    title = "ZooKeeper"
    warm_up_s = 8.0  # until the JVM has compiled what is hot

    def __init__(self, nodes: int = 3) -> None:
        super().__init__(nodes)
        self._daemons = Daemons(Path())
        self._directory = Path()
        self._ports: dict[int, int] = {}

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which("java") is None or not JAR.exists():
            return "ZooKeeper is not here; on Debian: apt-get install --no-install-recommends zookeeper"
        return None

    def version(self) -> str:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True, timeout=30).stderr
        jars = [path.stem.removeprefix("zookeeper-") for path in JAR.parent.glob("zookeeper-[0-9]*.jar")]
        return f"{', '.join(jars) or '?'}, {said.splitlines()[0]}"

    def settings(self) -> list[str]:
        return [
            "Debian's zoo.cfg and start command: the log is synced before it is spoken of (forceSync)",
            "maxClientCnxns=0 (the default refuses more than 60 connections of one address); admin server off",
            "setData of existing nodes in its own protocol, every connection at the leader",
        ]

    def command(self) -> str:
        return self._daemons.command

    def start(self, directory: Path) -> None:
        ports = free_ports(3 * self.nodes)
        self._directory = directory
        self._daemons = Daemons(directory)
        self._ports = dict(enumerate(ports[: self.nodes], 1))
        servers = [
            f"server.{node}=127.0.0.1:{quorum}:{election}"
            for node, quorum, election in zip(
                self._ports, ports[self.nodes : 2 * self.nodes], ports[2 * self.nodes :], strict=True
            )
        ]
        for node, port in self._ports.items():
            place = directory / f"n{node}"
            place.mkdir()
            (place / "myid").write_text(f"{node}\n", encoding="ascii")
            lines = [
                *("tickTime=2000", "initLimit=10", "syncLimit=5"),
                *(f"dataDir={place}", f"clientPort={port}", "clientPortAddress=127.0.0.1"),
                *("maxClientCnxns=0", "admin.enableServer=false", *servers),
            ]
            (place / "zoo.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")
            self._start(node)
        self._wait_ready()
        self._create()

    def _start(self, node: int) -> None:
        place = self._directory / f"n{node}"
        self._daemons.start(
            node,
            [
                *("java", "-cp", f"{LOGGING}:{JAR}"),
                *(f"-Dzookeeper.log.dir={place}", "-Dzookeeper.root.logger=INFO,ROLLINGFILE"),
                *("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(place / "zoo.cfg")),
            ],
        )

    def _create(self) -> None:
        with closing(self.dial(self.addresses()[self.leader()], TIMEOUT_S, 16, 0)) as session:
            session.greet()
            try:
                session.create(PATHS, b"v" * 16)
            except (LoadError, OSError) as error:
                raise PeerError(f"the nodes cannot be made: {error}") from error
            session.socket.sendall(session.farewell())
            session.receive()

    def _wait_ready(self) -> None:
        for node in self._ports:
            self._daemons.until(partial(self._mode, node), f"ZooKeeper node {node} does not serve")

    def stop(self) -> None:
        self._daemons.stop()

    def restart(self, node: int) -> None:
        self._start(node)
        self._wait_ready()

    def leader(self) -> int:
        return self._daemons.until(
            lambda: next((node for node in self._ports if self._mode(node) == "leader"), None),
            "ZooKeeper has no leader",
        )

    def kill(self, node: int) -> None:
        self._daemons.kill(node)

    def pids(self) -> list[int]:
        return self._daemons.pids()

    def addresses(self) -> dict[int, Address]:
        return {node: ("127.0.0.1", port) for node, port in self._ports.items()}

    def dial(self, address: Address, timeout_s: float, value_bytes: int, first: int) -> JuteSession:
        return JuteSession(address, timeout_s, _writes(value_bytes), first)

    def _mode(self, node: int) -> str | None:
        """leader or follower; None: it does not serve."""
        try:
            with socket.create_connection(("127.0.0.1", self._ports[node]), timeout=5) as connection:
                connection.sendall(b"srvr")
                said = b""
                while chunk := connection.recv(65536):
                    said += chunk
        except OSError:
            return None
        modes = [line.split(b": ")[1] for line in said.splitlines() if line.startswith(b"Mode: ")]
        return modes[0].decode() if modes else None
