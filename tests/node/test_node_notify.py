"""What the service manager is told, and how the reactor's lag is measured."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from paxos_twisted.node.notify import LAG_INTERVAL_S, LagProbe, Notifier, Watchdog


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)

    def heard(self) -> list[str]:
        """What has come since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@paxos-test-{os.getpid()}"
    made = Manager(name.replace("@", "\0"))
    yield made, name
    made.socket.close()


def test_manager_hears_readiness_status_and_the_end(manager: tuple[Manager, str]) -> None:
    heard, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.ready("leading")
    assert notifier.status("two\nlines")
    assert notifier.watchdog()
    assert notifier.stopping()
    assert heard.heard() == ["READY=1\nSTATUS=leading", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no manager"),
        pytest.param({"NOTIFY_SOCKET": ""}, id="an empty name"),
        pytest.param({"NOTIFY_SOCKET": "vsock:2:1234"}, id="a kind of address that we do not know"),
        pytest.param({"NOTIFY_SOCKET": "/nowhere/notify"}, id="a socket that is gone"),
        pytest.param({"NOTIFY_SOCKET": "/" + "x" * 200}, id="a name that is too long"),
    ],
)
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    assert not Notifier(environ).ready("leading")


def test_manager_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    made = Manager(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    sent = [notifier.watchdog() for _ in range(5000)]
    assert sent[0]
    assert not sent[-1]
    made.socket.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        pytest.param({"WATCHDOG_USEC": "2000000"}, 2.0, id="for everybody"),
        pytest.param({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0, id="for us"),
        pytest.param({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None, id="for another process"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="off"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="nonsense"),
        pytest.param({}, None, id="not asked for"),
    ],
)
def test_watchdog_is_on_when_the_manager_asks_us(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog_s == seconds


def watchdog(manager: tuple[Manager, str], **environ: str) -> tuple[Watchdog, Clock, list[str | None]]:
    clock, reason = Clock(), list[str | None](["the node reads its log"])
    notifier = Notifier({"NOTIFY_SOCKET": manager[1], **environ})
    return Watchdog(clock, notifier, lambda: reason[-1]), clock, reason


def test_watchdog_says_ready_once_and_before_that_why_not(manager: tuple[Manager, str]) -> None:
    service, clock, reason = watchdog(manager)
    service.startService()
    clock.pump([0.25] * 4)
    reason.append("no leader is known")
    clock.pump([0.25] * 4)
    reason.append(None)
    clock.pump([0.25] * 4)
    reason.append("no leader is known")
    clock.pump([0.25] * 4)
    service.stopService()
    assert manager[0].heard() == [
        "STATUS=the node reads its log",
        "STATUS=no leader is known",
        "READY=1\nSTATUS=serving",
        "STOPPING=1",
    ]
    assert clock.getDelayedCalls() == []


def test_watchdog_is_fed_at_least_twice_in_its_time_ready_or_not(manager: tuple[Manager, str]) -> None:
    service, clock, _ = watchdog(manager, WATCHDOG_USEC="400000")
    service.startService()
    fed = 0
    for _ in range(10):
        fed += manager[0].heard().count("WATCHDOG=1")
        clock.advance(0.2)
    service.stopService()
    assert fed == 10


def test_readiness_is_said_again_when_the_manager_could_not_take_it(manager: tuple[Manager, str]) -> None:
    service, clock, reason = watchdog(manager)
    while service.notifier.watchdog():
        pass  # until its queue is full
    reason.append(None)
    service.startService()
    assert not service.is_ready
    manager[0].heard()
    clock.advance(0.25)
    assert service.is_ready
    assert manager[0].heard() == ["READY=1\nSTATUS=serving"]
    service.stopService()


def test_watchdog_without_a_manager_takes_no_time() -> None:
    clock = Clock()
    service = Watchdog(clock, Notifier({}), lambda: None)
    service.startService()
    assert clock.getDelayedCalls() == []
    service.stopService()


def test_lag_is_how_late_a_call_came() -> None:
    clock, seen = Clock(), list[float]()
    probe = LagProbe(clock, seen.append)
    probe.startService()
    clock.advance(LAG_INTERVAL_S)
    clock.advance(LAG_INTERVAL_S + 0.030)
    assert seen == pytest.approx([0.0, 0.030])
    clock.advance(LAG_INTERVAL_S - 0.030)  # back in the rhythm
    clock.advance(2.5)  # the reactor stood still
    clock.advance(LAG_INTERVAL_S / 2)
    assert seen[2:4] == pytest.approx([0.0, 2.5 - LAG_INTERVAL_S])
    probe.stopService()
    assert clock.getDelayedCalls() == []


def test_lag_probe_keeps_its_rhythm_for_long() -> None:
    clock, seen = Clock(), list[float]()
    probe = LagProbe(clock, seen.append)
    probe.startService()
    clock.pump([LAG_INTERVAL_S] * 20_000)
    assert len(seen) >= 19_990
    assert max(seen) < 0.001
    probe.stopService()
