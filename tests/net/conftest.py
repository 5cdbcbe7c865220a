"""A reactor of its own for each test that needs real sockets."""

from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from paxos_twisted.net.lean_reactor import LeanReactor

WAIT_S = 20.0
"""A condition that does not come true by then never will."""


@pytest.fixture
def reactor(request: pytest.FixtureRequest) -> Iterator[EPollReactor]:
    """A reactor that the test turns with `pump`: ours, or Twisted's where stock transports are tested. Timers must be
    over when the test is."""
    is_stock = "direct" in request.fixturenames and not request.getfixturevalue("direct")
    made = EPollReactor() if is_stock else LeanReactor()
    yield made
    for _ in range(3):  # ports that were told to close do so in the next turn
        made.iterate(0)
    left = [call for call in made.getDelayedCalls() if call.active()]
    for reader in [*made.removeAll(), *made._internalReaders]:
        reader.connectionLost(Failure(ConnectionDone()))
    made._poller.close()
    assert not left, f"timers are left: {left}"


@pytest.fixture
def pump(reactor: EPollReactor) -> Callable[[Callable[[], object]], None]:
    """Turn the reactor until something is true."""

    def turn_until(condition: Callable[[], object]) -> None:
        deadline = monotonic() + WAIT_S
        while not condition():
            reactor.iterate(0.005)
            assert monotonic() < deadline, "it never came true"

    return turn_until


@pytest.fixture(params=[True, False], ids=["lean", "stock"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Our reactor and transports that send at once, and Twisted's own."""
    return bool(request.param)
