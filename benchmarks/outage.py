"""How long clients wait when the leader dies: the same clients for every system.

A few clients, one request at a time each, all connected to the leader. When a connection fails, or an answer takes
longer than `PATIENCE_S`, or is a refusal, the client goes to the next node (or to the one that it is told of) after
`PAUSE_S`. A client's gap is the longest time between two of its successful answers around the death.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.load import LoadError, Moved, Session

CLIENTS = 4
PATIENCE_S = 0.3
"""Short on purpose: etcd's followers lose what they forward to a dead leader, and its client waits for an answer."""
PAUSE_S = 0.01
BEFORE_S = 0.3
"""In full swing before the leader dies."""
AFTER = 20
"""Answers that each client must get before the death, and after it before it is over."""
LIMIT_S = 30.0

Address = tuple[str, int]


class OutageError(Exception):
    """Not every client came back in time. The text is a sentence."""


def gap_s(answered_at: Sequence[float], died_at: float, ended_at: float) -> float:
    """The longest time between two answers of one client that ended after `died_at`.

    A client that got no answer at all afterwards has waited until `ended_at`.
    """
    before = [moment for moment in answered_at if moment <= died_at]
    after = [moment for moment in answered_at if moment > died_at]
    points = [before[-1] if before else died_at, *after, *([] if after else [ended_at])]
    return max(later - earlier for earlier, later in itertools.pairwise(points))


class _Client(threading.Thread):
    """One client. `answered_at` may be read while it runs."""

    def __init__(self, dial: Callable[[Address, float], Session], addresses: Sequence[Address], first: Address) -> None:
        super().__init__(daemon=True)
        self.answered_at: list[float] = []
        self.is_over = False
        self._dial = dial
        self._addresses = addresses
        self._address = first

    def run(self) -> None:
        while not self.is_over:
            try:
                self._talk()
            except Moved as news:
                self._address = news.address
            except (LoadError, OSError):
                place = self._addresses.index(self._address) if self._address in self._addresses else -1
                self._address = self._addresses[(place + 1) % len(self._addresses)]
            time.sleep(PAUSE_S)

    def _talk(self) -> None:
        with contextlib.closing(self._dial(self._address, PATIENCE_S)) as session:
            session.greet()
            while not self.is_over:
                session.socket.sendall(session.requests(1, time.perf_counter()))
                while not session.take(session.receive(), time.perf_counter(), []):
                    if session.owed:
                        session.socket.sendall(session.owed)
                        session.owed = b""
                self.answered_at.append(time.perf_counter())
            session.socket.sendall(session.farewell())


def run_outage(
    dial: Callable[[Address, float], Session],
    addresses: Sequence[Address],
    leader: Address,
    kill: Callable[[], None],
) -> float:
    """Kill the leader under load; return the longest gap of any client, in seconds.

    Args:
        dial: opens a connection to an address with a timeout in seconds.
        addresses: of all nodes.
        kill: ends the leader's process at once.

    Raises:
        OutageError: a client did not come back within `LIMIT_S`.
    """
    began_at = time.perf_counter()
    clients = [_Client(dial, addresses, leader) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        while not all(len(client.answered_at) > AFTER for client in clients):
            if time.perf_counter() > began_at + LIMIT_S:
                raise OutageError(f"not every client was served within {LIMIT_S:g} s, before anything was killed")
            time.sleep(BEFORE_S)
        # The gap counts from a client's last answer: what `kill` itself takes does not matter much.
        died_at = time.perf_counter()
        kill()
        while not all(_is_back(client, died_at) for client in clients):
            if time.perf_counter() > died_at + LIMIT_S:
                raise OutageError(f"not every client was served again within {LIMIT_S:g} s")
            time.sleep(0.05)
    finally:
        for client in clients:
            client.is_over = True
        for client in clients:
            client.join(2 * PATIENCE_S)
    ended_at = time.perf_counter()
    return max(gap_s(client.answered_at, died_at, ended_at) for client in clients)


def _is_back(client: _Client, died_at: float) -> bool:
    return len(client.answered_at) > AFTER and client.answered_at[-AFTER] > died_at
