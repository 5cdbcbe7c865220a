"""The closed loop, with an echo at the other end of a pair of sockets; and what an outage is."""

import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.load import LoadError, Session, run_load
from benchmarks.outage import gap_s
from benchmarks.usage import usage_of


class EchoSession(Session):
    """Every request is one byte, and so is every answer."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.owed = b""
        self.open = 0
        self.open_max = 0

    def greet(self) -> None:
        assert self.socket.recv(1) == b"!"

    def requests(self, count: int, now: float) -> bytes:
        self.open += count
        self.open_max = max(self.open_max, self.open)
        return b"?" * count

    def take(self, data: bytes, now: float, rtts: list[float]) -> int:
        self.open -= len(data)
        rtts += [0.001] * len(data)
        return len(data)


class Echo:
    """Sessions whose other ends give back what they get, until they have had enough."""

    def __init__(self) -> None:
        self.sessions: list[EchoSession] = []
        self.threads: list[threading.Thread] = []
        self.answers_max: int | None = None

    def dial(self) -> Session:
        near, far = socket.socketpair()
        far.sendall(b"!")
        thread = threading.Thread(target=self._serve, args=(far,))
        thread.start()
        self.threads.append(thread)
        self.sessions.append(EchoSession(near))
        return self.sessions[-1]

    def _serve(self, end: socket.socket) -> None:
        answered = 0
        with end:
            while (data := end.recv(4096)) and (self.answers_max is None or answered < self.answers_max):
                end.sendall(data)
                answered += len(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Echoes that end with their connections."""
    made = Echo()
    yield made
    for thread in made.threads:
        thread.join(5)
        assert not thread.is_alive()


def test_a_load_keeps_so_many_requests_open_and_waits_for_all(echo: Echo) -> None:
    moments: list[str] = []
    sample = run_load(
        echo.dial, 3, 4, 0.02, at_start=lambda: moments.append("start"), at_end=lambda: moments.append("end")
    )
    assert moments == ["start", "end"]
    assert sample.commands == len(sample.rtts_s) >= 12
    assert sample.seconds >= 0.02
    assert [session.open_max for session in echo.sessions] == [4, 4, 4]
    assert [session.open for session in echo.sessions] == [0, 0, 0]


def test_a_connection_that_closes_under_load_is_an_error(echo: Echo) -> None:
    echo.answers_max = 10
    with pytest.raises(LoadError, match="closed a connection"):
        run_load(echo.dial, 1, 1, 60.0)


@pytest.mark.parametrize(
    ("answered_at", "expected"),
    [
        pytest.param([1.0, 2.0, 3.5, 3.6], 1.5, id="from the last answer before the death to the first one after it"),
        pytest.param([1.0, 2.0, 2.1, 5.1, 5.2], 3.0, id="an answer that was under way does not end the gap"),
        pytest.param([0.1, 1.9, 2.3, 2.4], 0.4, id="waits before the death do not count"),
        pytest.param([1.5], 8.5, id="nobody answers any more: until the end"),
        pytest.param([], 8.0, id="nobody ever answered: from the death to the end"),
    ],
)
def test_gap(answered_at: list[float], expected: float) -> None:
    assert gap_s(answered_at, died_at=2.0, ended_at=10.0) == pytest.approx(expected)


def test_usage_of_a_process_that_does_not_live_is_an_error() -> None:
    with pytest.raises(OSError):
        usage_of([2**22 + 1])  # above the highest process id that Linux gives


def test_usage_of_nobody_is_nothing() -> None:
    assert usage_of([]) == (0, 0, 0)
