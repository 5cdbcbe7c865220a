"""The HTTP port, asked over an in-memory connection: what each path answers, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from paxos_twisted.limits import HTTP_BODY_BYTES_MAX, HTTP_CONNECTIONS_MAX
from paxos_twisted.node.families import Labels
from paxos_twisted.node.http import IDLE_TIMEOUT_S, Refusal, make_site
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.node.secret import Secret

SECRET = "a-secret-of-some-length"


class Answer(NamedTuple):
    code: int
    headers: dict[str, str]
    body: str


class Wire(StringTransport):
    """A connection whose end can be seen."""

    aborted = False

    def __init__(self) -> None:
        super().__init__()
        self._lenient = True  # like TCP: it may be told to pause although it is about to close

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


class Node:
    """A site and what it was given; change `reason`, `status` and `actions` to play a node."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reason: str | None = None
        self.status: Any = {"node": 1, "ready": True}
        self.orders: list[dict[str, Any]] = []
        self.result: Any = {"done": True}
        self.secret: Secret | None = Secret(SECRET)

    def site(self) -> Factory:
        registry = CollectorRegistry()
        Metrics(registry, Labels(peers=("2",), engine="multipaxos", app="bank", ops=("deposit",), messages=("Accept",)))
        return make_site(
            self.clock,  # type: ignore[arg-type]
            registry=registry,
            ready=lambda: self.reason,
            status=self._status,
            admin={"snapshot": self._order},
            secret=self.secret,
            title="node 1 of <demo>",
        )

    def connect(self, site: Factory | None = None) -> tuple[Any, Wire]:
        protocol: Any = (site or self.site()).buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        wire = Wire()
        protocol.makeConnection(wire)
        return protocol, wire

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        protocol, wire = self.connect()
        protocol.dataReceived(request(method, path, body, **headers))
        protocol.connectionLost(Failure(ConnectionDone()))
        return answer(wire.value())

    def _status(self) -> Any:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def _order(self, order: dict[str, Any]) -> Any:
        self.orders.append(order)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: node", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answer(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(chunk.split(b"\r\n", 1)[1] for chunk in body.split(b"\r\n0\r\n")[:1])
    assert (
        "content-length" not in headers or first.startswith("HEAD") or len(body) in (0, int(headers["content-length"]))
    )
    return Answer(int(first.split()[1]), headers, body.decode())


@pytest.fixture
def node() -> Node:
    return Node()


BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def failures() -> Iterator[list[str]]:
    """What was logged with a failure."""
    seen: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None:
            seen.append(str(event["log_failure"].value))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


# Pages


def test_metrics_are_shown_in_the_text_format(node: Node) -> None:
    got = node.ask("GET", "/metrics")
    assert (got.code, got.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'paxos_leader_changes_total{cause="suspect"} 0.0\n' in got.body


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        pytest.param("*/*", "text/plain; version=0.0.4; charset=utf-8", id="curl"),
        pytest.param("text/html,*/*;q=0.8", "text/plain; version=0.0.4; charset=utf-8", id="a browser"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            id="a Prometheus that prefers OpenMetrics",
        ),
        pytest.param(
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4; charset=utf-8", id="Prometheus 2.42"
        ),
    ],
)
def test_metrics_come_in_the_format_that_is_asked_for(node: Node, accept: str, kind: str) -> None:
    got = node.ask("GET", "/metrics", Accept=accept)
    assert (got.code, got.headers["content-type"]) == (200, kind)
    assert got.body.endswith("# EOF\n") == kind.startswith("application")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_accept_header_gets_metrics(accept: str) -> None:
    assert Node().ask("GET", "/metrics", Accept=accept).code == 200


def test_node_is_alive_as_long_as_it_answers(node: Node) -> None:
    node.reason = "no leader is known"
    assert node.ask("GET", "/livez")[::2] == (200, "alive\n")


def test_node_is_ready_or_says_why_not(node: Node) -> None:
    assert node.ask("GET", "/readyz")[::2] == (200, "ready\n")
    node.reason = "the node reads its log"
    assert node.ask("GET", "/readyz")[::2] == (503, "not ready: the node reads its log\n")


def test_status_is_json(node: Node) -> None:
    got = node.ask("GET", "/status")
    assert (got.code, got.headers["content-type"]) == (200, "application/json")
    assert json.loads(got.body) == {"node": 1, "ready": True}
    assert got.headers["cache-control"] == "no-store"


def test_status_may_come_later(node: Node) -> None:
    later: Deferred[dict[str, int]] = Deferred()
    node.status = later
    protocol, wire = node.connect()
    protocol.dataReceived(request("GET", "/status"))
    assert wire.value() == b""
    later.callback({"slot": 3})
    assert json.loads(answer(wire.value()).body) == {"slot": 3}
    protocol.connectionLost(Failure(ConnectionDone()))


def test_status_that_comes_too_late_is_dropped(node: Node, failures: list[str]) -> None:
    later: Deferred[dict[str, int]] = Deferred()
    node.status = later
    protocol, wire = node.connect()
    protocol.dataReceived(request("GET", "/status"))
    protocol.connectionLost(Failure(ConnectionDone()))
    later.callback({"slot": 3})
    assert wire.value() == b""
    assert failures == []


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "later"])
def test_failing_page_is_a_500_and_is_logged(node: Node, failures: list[str], is_late: bool) -> None:
    later: Deferred[object] = Deferred()
    later.errback(Failure(RuntimeError("a bug in it")))
    node.status = later if is_late else RuntimeError("a bug in it")
    got = node.ask("GET", "/status")
    assert got[::2] == (500, "the node could not make this page; its log says why\n")
    assert failures == ["a bug in it"]


def test_first_page_lists_the_others(node: Node) -> None:
    got = node.ask("GET", "/")
    assert (got.code, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path in ("/status", "/events", "/clock", "/metrics", "/readyz", "/livez"):
        assert f'<a href="{path}">' in got.body
    assert "POST /admin/snapshot" in got.body
    assert "<h1>node 1 of &lt;demo&gt;</h1>" in got.body
    assert got.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/status", "/events", "/clock"])
def test_head_gives_the_headers_alone(node: Node, path: str) -> None:
    got = node.ask("HEAD", path)
    assert (got.code, got.body) == (200, "")
    assert got.headers["content-length"] == node.ask("GET", path).headers["content-length"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics/x", "/metrics/", "/status//", "/admin", "/admin/", "/admin/nothing", "//", "/%ff%0a"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_missing_path_is_a_404_with_a_sentence(node: Node, method: str, path: str) -> None:
    got = node.ask(method, path, **BEARER)
    assert got.code == 404
    assert got.body.startswith("there is nothing at /")
    assert got.body.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("BREW", "/status", "GET, HEAD"),
        ("GET", "/admin/snapshot", "POST"),
    ],
)
def test_wrong_method_is_a_405_with_a_sentence(node: Node, method: str, path: str, allowed: str) -> None:
    got = node.ask(method, path, **BEARER)
    assert (got.code, got.headers["allow"]) == (405, allowed.lower())
    assert got.body == f"{path} answers {allowed.split(',', maxsplit=1)[0]} only\n"
    assert node.orders == []


# Orders


def test_order_with_the_secret_is_done(node: Node) -> None:
    got = node.ask("POST", "/admin/snapshot", b'{"slot": 3}', **BEARER)
    assert (got.code, json.loads(got.body)) == (200, {"done": True})
    assert node.orders == [{"slot": 3}]


def test_order_without_a_body_is_an_empty_one(node: Node) -> None:
    assert node.ask("POST", "/admin/snapshot", **BEARER).code == 200
    assert node.orders == [{}]


def test_order_may_be_done_later(node: Node) -> None:
    later: Deferred[object] = Deferred()
    node.result = later
    protocol, wire = node.connect()
    protocol.dataReceived(request("POST", "/admin/snapshot", **BEARER))
    later.callback([1, 2])
    assert json.loads(answer(wire.value()).body) == [1, 2]
    protocol.connectionLost(Failure(ConnectionDone()))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no header"),
        pytest.param({"Authorization": "Bearer"}, id="no secret in it"),
        pytest.param({"Authorization": "Bearer wrong"}, id="another secret"),
        pytest.param({"Authorization": f"Bearer {SECRET}x"}, id="a longer secret"),
        pytest.param({"Authorization": f"Basic {SECRET}"}, id="another scheme"),
        pytest.param({"Authorization": SECRET}, id="the secret without a scheme"),
        pytest.param({"Authorization": "Bearer \xff\xfe"}, id="bytes that are no text"),
        pytest.param({"X-Authorization": f"Bearer {SECRET}"}, id="another header"),
    ],
)
def test_order_without_the_secret_is_a_403_with_a_sentence(node: Node, headers: dict[str, str]) -> None:
    got = node.ask("POST", "/admin/snapshot", b"{}", **headers)
    assert got[::2] == (403, "admin calls need the cluster's secret: Authorization: Bearer <secret>\n")
    assert node.orders == []


def test_without_a_secret_there_are_no_orders(node: Node) -> None:
    node.secret = None
    got = node.ask("POST", "/admin/snapshot", **BEARER)
    assert got[::2] == (403, "admin calls are switched off: the configuration names no secret_file\n")
    assert node.orders == []


@pytest.mark.parametrize("body", [b"{", b"[1]", b"3", b"\xff", b'{"a": }', b"[" * 5000])
def test_order_that_is_no_json_object_is_a_400(node: Node, body: bytes) -> None:
    got = node.ask("POST", "/admin/snapshot", body, **BEARER)
    assert got.code == 400
    assert got.body.startswith("the body is not a JSON object: ")
    assert node.orders == []


def failed(error: Exception) -> Callable[[], Any]:
    def make() -> Any:
        later: Deferred[object] = Deferred()
        later.errback(Failure(error))
        return later

    return make


@pytest.mark.parametrize(
    ("result", "code", "body"),
    [
        pytest.param(lambda: ValueError("loss must be in 0..1"), 400, "loss must be in 0..1\n", id="senseless"),
        pytest.param(lambda: Refusal("node 2 leads"), 409, "node 2 leads\n", id="not now"),
        pytest.param(lambda: Refusal("off", 403), 403, "off\n", id="with its own code"),
        pytest.param(failed(Refusal("node 2 leads")), 409, "node 2 leads\n", id="not now, said later"),
    ],
)
def test_order_that_cannot_be_done_says_why(node: Node, result: Callable[[], Any], code: int, body: str) -> None:
    node.result = result()
    assert node.ask("POST", "/admin/snapshot", **BEARER)[::2] == (code, body)


@pytest.mark.parametrize("result", [lambda: RuntimeError("a bug"), failed(RuntimeError("a bug"))], ids=["now", "later"])
def test_order_that_fails_is_a_500(node: Node, failures: list[str], result: Callable[[], Any]) -> None:
    node.result = result()
    assert node.ask("POST", "/admin/snapshot", **BEARER).code == 500
    assert failures == ["a bug"]


# Limits


def test_body_at_the_limit_is_read(node: Node) -> None:
    body = b'{"a": "' + b"x" * (HTTP_BODY_BYTES_MAX - 9) + b'"}'
    assert len(body) == HTTP_BODY_BYTES_MAX
    assert node.ask("POST", "/admin/snapshot", body, **BEARER).code == 200


def test_announced_long_body_is_a_413_before_it_is_sent(node: Node) -> None:
    protocol, wire = node.connect()
    protocol.dataReceived(request("POST", "/admin/snapshot", Content_Length=str(HTTP_BODY_BYTES_MAX + 1), **BEARER))
    got = answer(wire.value())
    assert got[::2] == (413, f"the body is longer than {HTTP_BODY_BYTES_MAX} bytes\n")
    assert wire.disconnecting
    for _ in range(20):
        protocol.dataReceived(b"x" * 65_536)
    assert wire.value().count(b"HTTP/1.1") == 1
    assert node.orders == []
    protocol.connectionLost(Failure(ConnectionDone()))


def test_unannounced_long_body_is_a_413_when_it_gets_too_long(node: Node) -> None:
    protocol, wire = node.connect()
    protocol.dataReceived(request("POST", "/admin/snapshot", Transfer_Encoding="chunked", **BEARER))
    for _ in range(20):
        protocol.dataReceived(b"1000\r\n" + b"x" * 4096 + b"\r\n")
    protocol.dataReceived(b"0\r\n\r\n")
    assert answer(wire.value()).code == 413
    assert wire.value().count(b"HTTP/1.1") == 1
    assert wire.disconnecting
    assert node.orders == []
    protocol.connectionLost(Failure(ConnectionDone()))


def test_connections_are_limited(node: Node) -> None:
    site = node.site()
    site.doStart()
    open_ones = [node.connect(site) for _ in range(HTTP_CONNECTIONS_MAX)]
    address = IPv4Address("TCP", "127.0.0.1", 1)
    assert site.buildProtocol(address) is None
    open_ones.pop()[0].connectionLost(Failure(ConnectionDone()))
    open_ones.append(node.connect(site))
    for protocol, _ in open_ones:
        protocol.connectionLost(Failure(ConnectionDone()))
    site.doStop()
    assert node.clock.getDelayedCalls() == []


def test_idle_connection_is_closed(node: Node) -> None:
    protocol, wire = node.connect()
    protocol.dataReceived(b"GET /metr")
    node.clock.advance(IDLE_TIMEOUT_S - 1)
    assert not wire.disconnecting
    node.clock.advance(2)
    assert wire.disconnecting
    protocol.connectionLost(Failure(ConnectionDone()))
    assert node.clock.getDelayedCalls() == []


def test_one_connection_serves_one_scrape_after_the_other(node: Node) -> None:
    protocol, wire = node.connect()
    for _ in range(3):
        protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n")
        assert answer(wire.value())[::2] == (200, "alive\n")
        wire.clear()
    assert not wire.disconnecting
    protocol.connectionLost(Failure(ConnectionDone()))


@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_the_connection_ends(data: bytes) -> None:
    node = Node()
    protocol, _ = node.connect()
    protocol.dataReceived(data)
    protocol.dataReceived(b"\r\n\r\n")
    protocol.connectionLost(Failure(ConnectionDone()))
    assert node.orders == []


def test_nothing_was_asked_of_the_global_reactor() -> None:
    assert global_reactor.getDelayedCalls() == []  # type: ignore[attr-defined]
