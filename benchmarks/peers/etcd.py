"""etcd: Debian's `etcd-server`."""

import http.client
import json
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.load import KEYS
from benchmarks.peers.daemons import Daemons, place
from benchmarks.peers.grpc import GrpcSession, put_message
from benchmarks.peers.system import Address, PeerError, WireSystem
from paxos_twisted.cluster.ports import free_ports


@cache
def _messages(value_bytes: int) -> list[bytes]:
    return [put_message(b"k%04d" % i, b"v" * value_bytes) for i in range(KEYS)]


class Etcd(WireSystem):
    """etcd with its defaults; clients speak gRPC to the leader."""

    name = "etcd"
    title = "etcd"

    def __init__(self, nodes: int = 3) -> None:
        super().__init__(nodes)
        self._daemons = Daemons(Path())
        self._directory = Path()
        self._client_ports: dict[int, int] = {}
        self._peer_ports: dict[int, int] = {}

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which("etcd") is None:
            return "etcd is not here; on Debian: apt-get install --no-install-recommends etcd-server"
        return None

    def version(self) -> str:
        said = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
        lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
        return f"{lines.get('etcd Version', '?')}, {lines.get('Go Version', '?')}"

    def settings(self) -> list[str]:
        return [
            "all defaults: the log is synced before it is spoken of; no history is compacted",
            "Put over gRPC (plain HTTP/2, headers indexed), every connection at the leader",
        ]

    def command(self) -> str:
        return self._daemons.command

    def start(self, directory: Path) -> None:
        ports = free_ports(2 * self.nodes)
        self._client_ports = dict(enumerate(ports[: self.nodes], 1))
        self._peer_ports = dict(enumerate(ports[self.nodes :], 1))
        self._directory = directory
        self._daemons = Daemons(directory)
        for node in self._client_ports:
            self._start(node)
        self._wait_ready()

    def _start(self, node: int) -> None:
        client, peer = (f"http://{place(ports, node)}" for ports in (self._client_ports, self._peer_ports))
        everyone = ",".join(f"n{i}=http://{place(self._peer_ports, i)}" for i in self._peer_ports)
        self._daemons.start(
            node,
            [
                "etcd",
                *("--name", f"n{node}", "--data-dir", str(self._directory / f"n{node}")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", everyone, "--initial-cluster-token", "bench", "--initial-cluster-state", "new"),
            ],
        )

    def _wait_ready(self) -> None:
        for node in self._client_ports:
            self._daemons.until(partial(self._health, node), f"etcd node {node} is not healthy")

    def stop(self) -> None:
        self._daemons.stop()

    def restart(self, node: int) -> None:
        self._start(node)
        self._wait_ready()

    def leader(self) -> int:
        return self._daemons.until(self._who_leads, "etcd has no leader")

    def kill(self, node: int) -> None:
        self._daemons.kill(node)

    def pids(self) -> list[int]:
        return self._daemons.pids()

    def addresses(self) -> dict[int, Address]:
        return {node: ("127.0.0.1", port) for node, port in self._client_ports.items()}

    def dial(self, address: Address, timeout_s: float, value_bytes: int, first: int) -> GrpcSession:
        return GrpcSession(address, timeout_s, _messages(value_bytes), first)

    def _health(self, node: int) -> bool | None:
        """True, or None."""
        answer = self._ask(node, "GET", "/health")
        return True if answer is not None and answer.get("health") == "true" else None

    def _who_leads(self) -> int | None:
        for node in self._client_ports:
            status = self._ask(node, "POST", "/v3/maintenance/status")
            if status is not None and status["header"]["member_id"] == status.get("leader"):
                return node
        return None

    def _ask(self, node: int, method: str, path: str) -> dict[str, Any] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._client_ports[node], timeout=5)
        try:
            connection.request(method, path, b"{}" if method == "POST" else None)
            answer = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise PeerError(f"etcd answers {path} with {answer!r}")
        return answer
