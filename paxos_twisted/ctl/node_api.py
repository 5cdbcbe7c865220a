"""A node's HTTP pages, as a tool sees them. One short connection a call: a tool may wait, a node may be dead."""

import http.client
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from paxos_twisted.node.config import Config
from paxos_twisted.node.quantities import Address
from paxos_twisted.node.secret import Secret
from paxos_twisted.types import NO_NODE, NO_ROUND, NO_SLOT, NodeId

TIMEOUT_S: Final = 2.0
"""A node that is alive answers within milliseconds; one that is frozen never does."""

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer answer is not one of ours."""

Value = TypeVar("Value")


class NodeError(Exception):
    """The node did not do what was asked. The text is a sentence for people."""


class NodeUnreachable(NodeError):
    """Nobody answered there."""


class NodeRefused(NodeError):
    """The node answered, but not with success."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
        """HTTP status."""


class PeerStatus(msgspec.Struct, frozen=True):
    """What a node says of another one."""

    up: bool = False
    suspected: bool = False
    rtt_ms: float | None = None
    adu: int = NO_SLOT
    dropped: int = 0


class DiskStatus(msgspec.Struct, frozen=True):
    """What a node says of its disk."""

    state: str = "good"
    write_no: int = 0
    durable_write_no: int = 0
    bytes: int = 0
    free_bytes: int = 0


class SnapshotStatus(msgspec.Struct, frozen=True):
    """The newest durable snapshot."""

    slot: int
    pieces: int = 0


class Commands(msgspec.Struct, frozen=True):
    """What became of the slots up to `applied`. Their sum is the number of slots."""

    applied: int = 0
    """Commands that took effect."""
    noops: int = 0
    """Slots that a new leader filled with nothing."""
    duplicates: int = 0
    """Repetitions of a command that had its effect already; they had none."""
    from_snapshot: int = 0
    """Slots whose effect came with a snapshot: what was in them is not known here."""

    @property
    def slots(self) -> int:
        """All of them together."""
        return self.applied + self.noops + self.duplicates + self.from_snapshot


class StateHash(msgspec.Struct, frozen=True):
    """The digest of the replicated state after `slot`."""

    slot: int = NO_SLOT
    digest: str = ""


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of /events, see docs/failover.md."""

    time_ns: int
    """Since 1970, by the node's clock."""
    event: str
    peer: int | None = None
    rnd: int | None = None
    cause: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """/status of one node. Keys that a newer node adds are ignored."""

    cluster: str
    node: int
    version: str = ""
    pid: int = 0
    uptime_s: float = 0.0
    engine: str = ""
    application: str = ""
    role: str = "starting"
    leader: int = NO_NODE
    leader_address: str | None = None
    round: int = NO_ROUND
    adu: int = NO_SLOT
    applied: int = NO_SLOT
    ready: bool = False
    caught_up: bool = False
    peers: dict[str, PeerStatus] = {}
    disk: DiskStatus = DiskStatus()
    snapshot: SnapshotStatus | None = None
    sessions: int = 0
    commands: Commands = Commands()
    clients: int = 0
    leader_changes: int = 0
    state_hash: StateHash = StateHash()
    faults: list[str] | None = None
    findings: list[str] = []


class _EventsPage(msgspec.Struct, frozen=True):
    events: list[Happening]


class _ClockPage(msgspec.Struct, frozen=True):
    unix_ns: int


class NodeApi:
    """The pages of one node."""

    def __init__(self, node: NodeId, address: Address | None, secret: Secret | None, timeout_s: float = TIMEOUT_S):
        self.node = node
        self.address = address
        """None: the configuration lets this node answer no HTTP."""
        self._secret = secret
        self._timeout_s = timeout_s

    def status(self) -> NodeStatus:
        """What the node says of itself.

        Raises:
            NodeError: it does not answer, or not as a node does.
        """
        try:
            status = msgspec.json.decode(self._request("GET", "/status"), type=NodeStatus)
        except msgspec.DecodeError as error:
            raise NodeError(f"{self.address} does not answer like a node: {error}") from error
        if status.node != self.node:
            raise NodeError(f"node {status.node} of cluster {status.cluster} answers at {self.address}")
        return status

    def not_ready(self) -> str | None:
        """None when the node serves, otherwise why not (also when it does not answer)."""
        try:
            self._request("GET", "/readyz")
        except NodeError as error:
            return str(error)
        return None

    def events(self) -> list[Happening]:
        """The last changes of leader and links, oldest first.

        Raises:
            NodeError: it does not answer, or knows no such page.
        """
        return self._decoded("/events", _EventsPage).events

    def clock_ns(self) -> int:
        """What time it is there, in nanoseconds since 1970.

        Raises:
            NodeError: it does not answer, or knows no such page.
        """
        return self._decoded("/clock", _ClockPage).unix_ns

    def metrics(self) -> str:
        """The metrics in Prometheus' text format.

        Raises:
            NodeError: it does not answer.
        """
        return self._request("GET", "/metrics").decode(errors="replace")

    def order(self, name: str, body: Mapping[str, Any]) -> Any:
        """POST /admin/<name> with the cluster's secret. Returns what the node says.

        Raises:
            NodeError: there is no secret, the node does not answer or refuses.
        """
        if self._secret is None:
            raise NodeError(
                "the configuration names no secret_file, so nodes take no orders (docs/configuration.md: secret_file)"
            )
        headers = {"Authorization": f"Bearer {self._secret.reveal()}", "Content-Type": "application/json"}
        return json.loads(self._request("POST", f"/admin/{name}", json.dumps(dict(body)).encode(), headers) or b"{}")

    def _decoded(self, path: str, kind: type[Value]) -> Value:
        try:
            return msgspec.json.decode(self._request("GET", path), type=kind)
        except msgspec.DecodeError as error:
            raise NodeError(f"{self.address} does not answer like a node: {error}") from error

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        where = self.address
        if where is None:
            raise NodeUnreachable(f"the configuration gives node {self.node} no http address")
        connection = http.client.HTTPConnection(where.host, where.port, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            data = answer.read(ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise NodeUnreachable(f"{where} has not answered for {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(f"{where}: {_reason(error)}") from error
        finally:
            connection.close()
        if answer.status >= 300:
            text = data[:2000].decode(errors="replace").strip() or answer.reason
            raise NodeRefused(text, answer.status)
        return data


def apis_of(config: Config, timeout_s: float = TIMEOUT_S) -> dict[NodeId, NodeApi]:
    """The pages of all nodes."""
    return {node.id: NodeApi(node.id, node.http, config.secret, timeout_s) for node in config.nodes}


def ask_all(apis: Iterable[NodeApi], question: Callable[[NodeApi], Value]) -> dict[NodeId, Value | NodeError]:
    """Ask all nodes at once: one that is frozen makes nobody wait longer than its timeout."""
    asked = list(apis)

    def ask(api: NodeApi) -> Value | NodeError:
        try:
            return question(api)
        except NodeError as error:
            return error

    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked), "ask") as pool:
        return dict(zip([api.node for api in asked], pool.map(ask, asked), strict=True))


def all_statuses(apis: Mapping[NodeId, NodeApi]) -> dict[NodeId, NodeStatus | NodeError]:
    """What every node says of itself, or why it does not."""
    return ask_all(apis.values(), NodeApi.status)


def who_leads(statuses: Iterable[NodeStatus | NodeError]) -> NodeId | None:
    """The node that leads by its own word; the one with the highest round, should two say so; None: nobody."""
    leading = [status for status in statuses if isinstance(status, NodeStatus) and status.role == "leader"]
    return NodeId(max(leading, key=lambda status: status.round).node) if leading else None


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
