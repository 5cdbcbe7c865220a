"""HTTP on each node: metrics, health, status, and the few orders that an operator may give.

Everything is rendered on the reactor's thread from the objects given to `make_site`: no thread pool, no global reactor.
[conventions CV-09]
"""
# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations, and its interfaces are zope's, which mypy does not know)

import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from paxos_twisted.limits import HTTP_BODY_BYTES_MAX, HTTP_CONNECTIONS_MAX
from paxos_twisted.node.secret import Secret

IDLE_TIMEOUT_S: Final = 60.0
"""A connection without a request for this long is closed. Prometheus keeps its connection open between scrapes."""

TEXT: Final = "text/plain; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

log = Logger()


class Refusal(Exception):
    """An admin action cannot be done now. The caller gets the text and the code (409 unless said otherwise)."""

    def __init__(self, text: str, code: int = 409) -> None:
        super().__init__(text)
        self.code = code


Action = Callable[[dict[str, Any]], Any]
"""Does what POST /admin/<name> asks for, with the JSON object of the body ({} for an empty one). Returns what can be
shown as JSON, or a Deferred of it. ValueError: the body makes no sense (400). `Refusal`: not now."""


class Reply(NamedTuple):
    """What a page answers."""

    code: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def sentence(code: int, text: str, *headers: tuple[str, str]) -> Reply:
    """One line of text."""
    return Reply(code, TEXT, text.encode() + b"\n", headers)


def as_json(value: Any, code: int = 200) -> Reply:
    """JSON, indented for people who use curl."""
    body = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    return Reply(code, "application/json", body + b"\n")


class Page(Resource):
    """One path with one method (GET implies HEAD). `answer` returns a Reply or a Deferred of one."""

    isLeaf = True

    def __init__(self, method: str, answer: Callable[[Request], "Reply | Deferred[Reply]"]) -> None:
        super().__init__()
        self.methods = ("GET", "HEAD") if method == "GET" else (method,)
        self.answer = answer

    def render(self, request: Request) -> bytes | int:
        """Called by Twisted for a request of this path."""
        try:
            reply = self._reply(request)
        except Exception:
            reply = self._failed(Failure())
        if isinstance(reply, Reply):
            return _filled(request, reply)
        _finish_later(request, reply.addErrback(self._failed))
        return NOT_DONE_YET

    def _reply(self, request: Request) -> "Reply | Deferred[Reply]":
        if request.postpath:
            return _not_found(request)
        method = request.method.decode("latin-1")
        if method not in self.methods:
            return sentence(405, f"{_path(request)} answers {self.methods[0]} only", ("Allow", ", ".join(self.methods)))
        return self.answer(request)

    def _failed(self, failure: Failure) -> Reply:
        log.failure("an HTTP page failed", failure=failure)
        return sentence(500, "the node could not make this page; its log says why")


class _Missing(Resource):
    """Every path that does not exist."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        return _filled(request, _not_found(request))


class _Folder(Resource):
    """Pages by name; everything else is missing."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Missing()

    def render(self, request: Request) -> bytes:
        return _filled(request, _not_found(request))


class _LimitedRequest(Request):
    """A request that does not read long bodies: they are answered with 413 and the connection is closed."""

    _body_bytes = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0 if length and length > HTTP_BODY_BYTES_MAX else length)
        if length and length > HTTP_BODY_BYTES_MAX:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._refused:
            return
        if self._body_bytes > HTTP_BODY_BYTES_MAX:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def process(self) -> None:
        if not self._refused:
            super().process()

    def _refuse(self) -> None:
        self._refused = True
        body = f"the body is longer than {HTTP_BODY_BYTES_MAX} bytes\n".encode()
        head = f"HTTP/1.1 413 Content Too Large\r\nContent-Type: {TEXT}\r\nContent-Length: {len(body)}\r\n"
        self.channel.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.channel.loseConnection()


class _Ended(ProtocolWrapper):
    """Takes no more bytes once the connection is to be closed: twisted.web would stumble over what follows a line that
    it has refused, and write a traceback into the log for every stranger."""

    def dataReceived(self, data: bytes) -> None:
        if not self.disconnecting:
            super().dataReceived(data)


class _Limited(WrappingFactory):
    """Closes connections beyond HTTP_CONNECTIONS_MAX at once."""

    noisy = False
    protocol = _Ended

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        if len(self.protocols) >= HTTP_CONNECTIONS_MAX:
            return None
        return super().buildProtocol(addr)


class _Site(Site):
    """No access log: a scrape every second would fill it."""

    noisy = False
    displayTracebacks = False

    def startFactory(self) -> None:
        """Do not begin to format the time of log entries once a second."""

    def log(self, request: http.Request) -> None:
        """Nothing."""


def make_site(
    reactor: IReactorTime,
    *,
    registry: CollectorRegistry,
    ready: Callable[[], str | None],
    status: Callable[[], Any],
    admin: Mapping[str, Action],
    secret: Secret | None,
    title: str = "paxosnode",
    alive: Callable[[], str | None] = lambda: None,
    events: Callable[[], Any] = dict,
) -> WrappingFactory:
    """Return the factory to listen with.

    Args:
        registry: what /metrics shows.
        ready: None when the node has recovered, has a leader and has caught up; otherwise the reason why not.
        status: what /status shows as JSON, or a Deferred of it.
        admin: the action behind POST /admin/<name>.
        secret: what admin calls must present; None: there are no admin calls.
        title: heads the page of links.
        alive: None, or the reason why a supervisor should restart the node. Answering at all is most of it.
        events: what /events shows as JSON.
    """
    root = make_root(registry, ready, status, admin, secret, title=title, alive=alive, events=events)
    site = _Site(root, requestFactory=_LimitedRequest, timeout=IDLE_TIMEOUT_S, reactor=reactor)
    return _Limited(site)


def make_root(
    registry: CollectorRegistry,
    ready: Callable[[], str | None],
    status: Callable[[], Any],
    admin: Mapping[str, Action],
    secret: Secret | None,
    *,
    title: str,
    alive: Callable[[], str | None],
    events: Callable[[], Any],
) -> Resource:
    """The tree of pages, see `make_site`."""

    def show_status(request: Request) -> "Reply | Deferred[Reply]":
        result = status()
        return result.addCallback(as_json) if isinstance(result, Deferred) else as_json(result)

    root, orders = _Folder(), _Folder()
    _put(root, b"", Page("GET", lambda request: Reply(200, "text/html; charset=utf-8", _index(title, admin))))
    _put(root, b"metrics", Page("GET", lambda request: _metrics(request, registry)))
    _put(root, b"livez", Page("GET", lambda request: _health(alive(), "alive")))
    _put(root, b"readyz", Page("GET", lambda request: _health(ready(), "ready")))
    _put(root, b"status", Page("GET", show_status))
    _put(root, b"events", Page("GET", lambda request: as_json(events())))
    _put(root, b"clock", Page("GET", lambda request: as_json(_clock())))
    for name, action in admin.items():
        _put(orders, name.encode(), Page("POST", _Order(action, secret)))
    _put(root, b"admin", orders)
    return root


def _put(folder: Resource, name: bytes, page: Resource) -> None:
    folder.putChild(name, page)  # type: ignore[arg-type]


class _Order:
    """An admin action behind the check of the secret."""

    def __init__(self, action: Action, secret: Secret | None) -> None:
        self.action = action
        self.secret = secret

    def __call__(self, request: Request) -> "Reply | Deferred[Reply]":
        """Answer one POST."""
        if self.secret is None:
            return sentence(403, "admin calls are switched off: the configuration names no secret_file")
        scheme, _, given = (request.getHeader(b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not self.secret.matches(given.strip()):
            return sentence(403, "admin calls need the cluster's secret: Authorization: Bearer <secret>")
        try:
            assert request.content is not None
            body = request.content.read()
            order = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
        except (msgspec.DecodeError, RecursionError) as error:
            return sentence(400, f"the body is not a JSON object: {error}")
        try:
            result = self.action(order)
        except (ValueError, Refusal) as error:
            return _refused(error)
        if not isinstance(result, Deferred):
            return as_json(result)

        def refused(failure: Failure) -> Reply | Failure:
            return _refused(failure.value) if isinstance(failure.value, (ValueError, Refusal)) else failure

        return result.addCallbacks(as_json, refused)


def _refused(error: BaseException) -> Reply:
    return sentence(error.code if isinstance(error, Refusal) else 400, str(error))


def _health(reason: str | None, word: str) -> Reply:
    return sentence(200, word) if reason is None else sentence(503, f"not {word}: {reason}")


def _metrics(request: Request, registry: CollectorRegistry) -> Reply:
    accepted = (request.getHeader(b"accept") or b"").split(b",")
    if any(kind.split(b";")[0].strip() == b"application/openmetrics-text" for kind in accepted):
        return Reply(200, OPEN_METRICS, openmetrics.generate_latest(registry))
    return Reply(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry))


def _clock() -> dict[str, int]:
    return {"unix_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}


def _not_found(request: Request) -> Reply:
    return sentence(404, f"there is nothing at {_path(request)}; / lists what there is")


def _path(request: Request) -> str:
    """The path as it may stand in a sentence: on one line, not too long."""
    path = request.path.decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in path[:100])


def _filled(request: Request, reply: Reply) -> bytes:
    """Set code and headers; returns the body."""
    request.setResponseCode(reply.code)
    request.setHeader("server", "paxosnode")
    request.setHeader("content-type", reply.kind)
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-content-type-options", "nosniff")
    request.setHeader("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
    for name, value in reply.headers:
        request.setHeader(name, value)
    return reply.body


def _finish_later(request: Request, reply: "Deferred[Reply]") -> None:
    gone: list[Failure] = []
    request.notifyFinish().addErrback(gone.append)

    def send(reply: Reply) -> None:
        if not gone:
            body = _filled(request, reply)
            request.setHeader("content-length", str(len(body)))
            request.write(body)
            request.finish()

    reply.addCallback(send).addErrback(lambda failure: log.failure("an answer was not sent", failure=failure))


_PAGES: Final = (
    ("/status", "what the node is doing, as JSON"),
    ("/events", "the last changes of leader and links with their exact times, as JSON"),
    ("/clock", "what time it is here, so that the clocks of machines can be compared"),
    ("/metrics", "numbers for Prometheus"),
    ("/readyz", "whether the node serves: recovered, leader known, caught up"),
    ("/livez", "whether the process is alive"),
)


def _index(title: str, admin: Mapping[str, Action]) -> bytes:
    rows = "".join(f'<li><a href="{path}">{path}</a> &ndash; {meaning}</li>\n' for path, meaning in _PAGES)
    orders = "".join(f"<li>POST /admin/{escape(name)}</li>\n" for name in sorted(admin))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width">
<style>body {{ font: 16px/1.6 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}</style></head>
<body><h1>{escape(title)}</h1>
<ul>
{rows}</ul>
<p>Orders, with the header <code>Authorization: Bearer &lt;secret&gt;</code> (<code>paxosctl</code> sends them):</p>
<ul>
{orders}</ul>
</body></html>
""".encode()
