"""Telling the service manager how the node is (sd_notify), and measuring how late the reactor is.

The protocol of systemd's sd_notify(3): datagrams of KEY=value lines to the socket named by NOTIFY_SOCKET. Without that
variable all of it does nothing. The watchdog is fed by the reactor, so a blocked reactor is restarted, and seen.
"""
# mypy: disallow-untyped-calls=False
# (twisted.application has no annotations)

import os
import socket
from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from paxos_twisted.net.reactor import Clock

log = Logger()

LAG_INTERVAL_S = 0.1
"""Ten measurements a second cost nothing and see every stall that a client would notice."""


class Notifier:
    """Datagrams to the service manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of Linux's abstract names. Other kinds of address (vsock) are not for us.
        self.address = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""
        self.watchdog_s = _watchdog_s(environ)
        """The manager restarts us when it has not heard for this long; None: it does not watch."""

    def send(self, *lines: str) -> bool:
        """Send KEY=value lines. Returns whether they were sent; never raises, never blocks."""
        if not self.address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self.address)
        except OSError:
            return False
        return True

    def ready(self, status: str) -> bool:
        """The node serves."""
        return self.send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self.send(f"STATUS={_one_line(text)}")

    def stopping(self) -> bool:
        """The node is about to stop."""
        return self.send("STOPPING=1")

    def watchdog(self) -> bool:
        """The node is alive."""
        return self.send("WATCHDOG=1")


class Watchdog(Service):
    """Says READY=1 once `ready` returns None, then feeds the watchdog for as long as the reactor turns."""

    name = "watchdog"

    def __init__(
        self, clock: Clock, notifier: Notifier, ready: Callable[[], str | None], interval_s: float = 0.25
    ) -> None:
        watched = notifier.watchdog_s
        self.notifier = notifier
        self.ready = ready
        self.interval_s = min(interval_s, watched / 2) if watched else interval_s
        self.is_ready = False
        self._reason: str | None = None
        self._loop = LoopingCall(self._turn)
        self._loop.clock = clock  # type: ignore[assignment]  # only callLater and seconds are used
        self._ended: Deferred[LoopingCall] | None = None

    def startService(self) -> None:
        """Begin. Does nothing without a service manager."""
        super().startService()
        if self.notifier.address:
            self._ended = self._loop.start(self.interval_s)
            self._ended.addErrback(lambda failure: log.failure("the watchdog failed", failure=failure))

    def stopService(self) -> None:
        """Say STOPPING=1 and end."""
        super().stopService()
        self.notifier.stopping()
        if self._loop.running:
            self._loop.stop()

    def _turn(self) -> None:
        if self.notifier.watchdog_s:
            self.notifier.watchdog()
        if self.is_ready:
            return
        reason = self.ready()
        if reason is None:
            self.is_ready = self.notifier.ready("serving")  # or again: the manager's queue may be full
        elif reason != self._reason:
            self._reason = reason
            self.notifier.status(reason)


class LagProbe(Service):
    """Measures how late the reactor calls what was due: every stall longer than the interval is seen in full."""

    name = "lag probe"

    def __init__(self, clock: Clock, observe: Callable[[float], object]) -> None:
        self.clock = clock
        self.observe = observe
        """Called with seconds, e.g. `metrics.reactor_lag.observe`."""
        self._due = 0.0
        self._loop = LoopingCall(self._turn)
        self._loop.clock = clock  # type: ignore[assignment]  # only callLater and seconds are used

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._due = self.clock.seconds() + LAG_INTERVAL_S
        ended = self._loop.start(LAG_INTERVAL_S, now=False)
        ended.addErrback(lambda failure: log.failure("the lag probe failed", failure=failure))

    def stopService(self) -> None:
        """End."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _turn(self) -> None:
        now = self.clock.seconds()
        self.observe(max(0.0, now - self._due))
        # The loop leaves out the calls that it missed and keeps to its rhythm; so does the next due time.
        missed = int((now - self._due) / LAG_INTERVAL_S)
        self._due += (missed + 1) * LAG_INTERVAL_S


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and int(microseconds) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
