"""The life of the stream that we dial: the table at the top of `paxos_twisted.net.link`, row by row."""

import msgspec
import pytest
from net_support import TWO, FakeTransport, Shell, accept, encode, heartbeat
from twisted.internet.error import ConnectionRefusedError, TCPTimedOutError
from twisted.logger import LogLevel, globalLogPublisher

from paxos_twisted.core.engine import LinkState
from paxos_twisted.limits import HANDSHAKE_TIMEOUT_S, PEER_BUFFER_BYTES_MAX, REDIAL_MAX_S, REDIAL_MIN_S
from paxos_twisted.net.link import PeerLink, Phase
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, PeerHello, PeerWelcome, Rejected

UP, LOST, REFUSED = (TWO, LinkState.UP), (TWO, LinkState.LOST), (TWO, LinkState.REFUSED)


class Dialled:
    """The link from node 1 to node 2."""

    def __init__(self) -> None:
        self.shell = Shell()
        self.link: PeerLink = self.shell.links.links[TWO]
        self.link.start()

    @property
    def attempts(self) -> int:
        return len(self.shell.sockets.attempts)

    def connect(self) -> FakeTransport:
        transport = self.shell.sockets.attempts[-1].succeed()
        self.shell.end_turn()
        return transport

    def up(self) -> FakeTransport:
        transport = self.connect()
        transport.say(encode(PeerWelcome(PROTOCOL_VERSION, TWO, "identity-2")))
        return transport

    def fail(self, error: Exception) -> None:
        self.shell.sockets.attempts[-1].fail(error)

    def pass_time(self, seconds: float) -> None:
        self.shell.clock.advance(seconds)

    @property
    def told(self) -> list[object]:
        return list(self.shell.links_told)


def test_a_connection_is_greeted_with_everything_the_peer_checks() -> None:
    dialled = Dialled()
    (payload,) = dialled.connect().heard()
    hello = msgspec.msgpack.decode(payload, type=PeerHello)
    assert hello == dialled.shell.local.hello_to(TWO, 17)
    assert dialled.link.phase is Phase.GREETING
    assert not dialled.link.is_up


def test_a_welcome_brings_the_link_up() -> None:
    dialled = Dialled()
    dialled.up()
    assert dialled.link.phase is Phase.UP
    assert dialled.told == [UP]


def test_a_lost_link_is_dialled_again_at_once() -> None:
    dialled = Dialled()
    transport = dialled.up()
    dialled.pass_time(REDIAL_MAX_S)
    transport.lose()
    assert dialled.told == [UP, LOST]
    dialled.pass_time(0)
    assert dialled.attempts == 2
    dialled.up()
    assert dialled.told == [UP, LOST, UP]


def test_a_dead_process_is_told_once_as_soon_as_nobody_listens() -> None:
    dialled = Dialled()
    transport = dialled.up()
    dialled.pass_time(REDIAL_MAX_S)
    transport.lose()
    dialled.pass_time(0)
    dialled.fail(ConnectionRefusedError())
    assert dialled.told == [UP, LOST, REFUSED]
    dialled.pass_time(REDIAL_MAX_S)
    dialled.fail(ConnectionRefusedError())
    assert dialled.told == [UP, LOST, REFUSED]


def test_refused_before_it_was_ever_up_is_not_told() -> None:
    dialled = Dialled()
    dialled.fail(ConnectionRefusedError())
    assert dialled.told == []


def test_a_time_out_is_no_refusal_but_a_later_refusal_is_told() -> None:
    dialled = Dialled()
    transport = dialled.up()
    transport.lose()
    dialled.pass_time(REDIAL_MAX_S)
    dialled.fail(TCPTimedOutError())
    assert dialled.told == [UP, LOST]
    dialled.pass_time(REDIAL_MAX_S)
    dialled.fail(ConnectionRefusedError())
    assert dialled.told == [UP, LOST, REFUSED]


def test_waits_between_attempts_grow_to_a_second_and_not_beyond() -> None:
    dialled = Dialled()
    waits = []
    for _ in range(12):
        before = dialled.shell.clock.seconds()
        dialled.fail(ConnectionRefusedError())
        (call,) = dialled.shell.clock.getDelayedCalls()
        waits.append(call.getTime() - before)
        attempts = dialled.attempts
        dialled.pass_time(waits[-1])
        assert dialled.attempts == attempts + 1
    assert REDIAL_MIN_S / 2 <= waits[0] <= REDIAL_MIN_S
    assert all(REDIAL_MAX_S / 2 <= wait <= REDIAL_MAX_S for wait in waits[6:])
    assert len(set(waits)) == len(waits), "without jitter nodes would dial in step"


def test_a_peer_that_welcomes_and_closes_is_not_dialled_without_end() -> None:
    dialled = Dialled()
    for _ in range(5):
        dialled.up().lose()
        (call,) = dialled.shell.clock.getDelayedCalls()
        assert call.getTime() - dialled.shell.clock.seconds() >= REDIAL_MIN_S / 2
        dialled.pass_time(REDIAL_MAX_S)


def test_a_peer_that_does_not_answer_the_greeting_is_given_up() -> None:
    dialled = Dialled()
    transport = dialled.connect()
    dialled.pass_time(HANDSHAKE_TIMEOUT_S)
    assert transport.is_aborted
    transport.lose()
    assert dialled.link.phase is Phase.WAITING
    assert dialled.shell.connections.rejected == {("peer", "timeout"): 1}
    assert dialled.told == []


def test_a_rejection_is_logged_once_per_change_and_tried_again_slowly() -> None:
    dialled = Dialled()
    texts: list[str] = []

    def observe(event: dict[str, object]) -> None:
        if event["log_level"] is LogLevel.error:
            texts.append(str(event["text"]))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        for text in ("other settings", "other settings", "other cluster"):
            transport = dialled.connect()
            transport.say(encode(Rejected("settings", text)))
            assert transport.is_aborted
            transport.lose()
            attempts = dialled.attempts
            dialled.pass_time(REDIAL_MAX_S / 2 - 0.01)
            assert dialled.attempts == attempts
            dialled.pass_time(REDIAL_MAX_S)
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert texts == ["other settings", "other cluster"]
    assert dialled.shell.links.rejections() == ["no link to node 2: other cluster"]
    dialled.up()
    assert dialled.shell.links.rejections() == []


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"nonsense", id="nonsense"),
        pytest.param(encode(heartbeat()), id="a message instead of a greeting"),
        pytest.param(encode(PeerWelcome(PROTOCOL_VERSION, TWO, "identity-9")), id="a welcome with a lost memory"),
    ],
)
def test_an_answer_that_is_no_good_does_not_bring_the_link_up(payload: bytes) -> None:
    dialled = Dialled()
    dialled.shell.known[TWO] = ("identity-2", 5)
    transport = dialled.connect()
    transport.say(payload)
    assert transport.is_aborted
    assert dialled.told == []
    assert dialled.link.rejection


@pytest.mark.parametrize("payload", [encode(heartbeat()), b"\xc0"], ids=["a message", "nothing"])
def test_nothing_may_come_back_on_a_stream_that_we_dialled(payload: bytes) -> None:
    dialled = Dialled()
    transport = dialled.up()
    transport.say(payload, payload)
    assert transport.is_aborted
    assert dialled.shell.received == []
    assert dialled.shell.connections.rejected == {("peer", "frame"): 1}
    transport.lose()
    assert dialled.told == [UP, LOST]


def test_messages_go_out_in_order_in_one_write_per_turn() -> None:
    dialled = Dialled()
    transport = dialled.up()
    transport.written.clear()
    for number in range(3):
        dialled.link.send(encode(heartbeat(stamp=number)), type(heartbeat()))
    dialled.shell.end_turn()
    assert len(transport.written) == 1
    assert transport.heard() == [encode(heartbeat(stamp=number)) for number in range(3)]
    assert dialled.link.sent[type(heartbeat())] == 3


def test_messages_for_a_peer_that_is_not_connected_are_dropped_and_counted() -> None:
    dialled = Dialled()
    dialled.link.send(b"x", type(heartbeat()))
    assert dialled.link.dropped == {"overflow": 0, "unconnected": 1}


def test_messages_for_a_peer_that_does_not_read_are_dropped_beyond_the_limit() -> None:
    dialled = Dialled()
    transport = dialled.up()
    transport.written.clear()
    transport.protocol.pauseProducing()
    payload = encode(accept(values=bytes(1 << 20)))
    for _ in range(80):
        dialled.link.send(payload, type(accept()))
        dialled.shell.end_turn()
    sent = PEER_BUFFER_BYTES_MAX // (len(payload) + 4)
    assert dialled.link.dropped["overflow"] == 80 - sent
    assert dialled.link.sent[type(accept())] == sent
    assert dialled.link.bytes_waiting <= PEER_BUFFER_BYTES_MAX
    assert transport.written == []
    transport.protocol.resumeProducing()
    dialled.shell.end_turn()
    assert transport.heard() == [payload] * sent
    dialled.link.send(payload, type(accept()))
    assert dialled.link.sent[type(accept())] == sent + 1


def test_bytes_are_counted_over_all_connections() -> None:
    dialled = Dialled()
    first = dialled.up()
    dialled.pass_time(REDIAL_MAX_S)
    first.lose()
    dialled.pass_time(0)
    second = dialled.connect()
    assert dialled.link.bytes_sent == sum(map(len, first.written + second.written))


@pytest.mark.parametrize("phase", [Phase.DIALLING, Phase.GREETING, Phase.UP, Phase.WAITING])
def test_a_stopped_link_says_and_does_nothing_more(phase: Phase) -> None:
    dialled = Dialled()
    transport = None
    if phase is Phase.WAITING:
        dialled.fail(ConnectionRefusedError())
    elif phase is not Phase.DIALLING:
        transport = dialled.connect() if phase is Phase.GREETING else dialled.up()
    assert dialled.link.phase is phase
    told, attempts = dialled.told, dialled.attempts
    dialled.link.stop()
    if transport is not None:
        assert transport.is_half_closed
        transport.lose()
    elif phase is Phase.DIALLING:
        assert dialled.shell.sockets.attempts[-1].is_given_up
        late = dialled.connect()  # it was too late to give up
        assert late.is_aborted
        late.lose()
    dialled.pass_time(60)
    assert (dialled.told, dialled.attempts) == (told, attempts)
    assert not dialled.shell.clock.getDelayedCalls()
