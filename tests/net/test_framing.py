"""One connection: frames in any chunks, one write per turn, back-pressure, last words."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_support import FakeTransport, Shell

from paxos_twisted.limits import LINGER_S
from paxos_twisted.net.framing import PUSH_BYTES, FrameConnection
from paxos_twisted.wire.frames import frame


class Recorder:
    """A role that keeps what it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.notes: list[str] = []

    def on_made(self) -> None:
        self.notes.append("made")

    def on_frames(self, frames: Iterator[bytes]) -> None:
        self.frames.extend(frames)

    def on_bad_stream(self, text: str) -> None:
        self.notes.append(text)

    def on_blocked(self, is_blocked: bool) -> None:
        self.notes.append("blocked" if is_blocked else "free")

    def on_lost(self) -> None:
        self.notes.append("lost")


class Wired:
    """A connected connection."""

    def __init__(self, frame_bytes_max: int = 1 << 20) -> None:
        self.shell = Shell()
        self.role = Recorder()
        self.connection = FrameConnection(self.shell.connections, self.role, frame_bytes_max)
        self.transport = FakeTransport()
        self.transport.connect(self.connection)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@pytest.mark.fuzz
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.lists(st.integers(0, 10_000), max_size=40))
def test_frames_survive_any_chunks(payloads: list[bytes], cuts: list[int]) -> None:
    wired = Wired()
    for chunk in chunks(b"".join(map(frame, payloads)), cuts):
        wired.connection.dataReceived(chunk)
    assert wired.role.frames == payloads


def test_a_turn_makes_one_write_of_many_frames() -> None:
    wired = Wired()
    for number in range(50):
        wired.connection.send(b"%d" % number)
    assert wired.transport.written == []
    wired.shell.end_turn()
    assert len(wired.transport.written) == 1
    assert wired.transport.heard() == [b"%d" % number for number in range(50)]
    assert wired.connection.bytes_out == len(wired.transport.written[0])
    assert wired.connection.out_bytes == 0


def test_what_the_transport_does_not_take_waits_in_order() -> None:
    wired = Wired()
    wired.connection.pauseProducing()
    wired.connection.send(b"first")
    wired.shell.end_turn()
    assert wired.transport.written == []
    assert wired.connection.out_bytes == 9
    wired.connection.resumeProducing()
    wired.connection.send(b"second")
    wired.shell.end_turn()
    assert wired.transport.heard() == [b"first", b"second"]
    assert wired.role.notes == ["made", "blocked", "free"]


def test_much_is_written_in_pieces_until_the_transport_has_enough() -> None:
    wired = Wired()
    payload = bytes(PUSH_BYTES // 4)
    for _ in range(20):
        wired.connection.send(payload)
    write = wired.transport.write

    def write_and_block(data: bytes) -> None:
        write(data)
        wired.connection.pauseProducing()

    wired.transport.write = write_and_block  # type: ignore[method-assign]
    for pieces in range(1, 6):
        wired.shell.end_turn()
        assert len(wired.transport.written) == pieces
        assert len(wired.transport.written[-1]) < 2 * PUSH_BYTES
        wired.connection.resumeProducing()
    wired.shell.end_turn()
    assert wired.transport.heard() == [payload] * 20


def test_last_words_are_written_before_the_half_close_and_input_is_ignored_from_then_on() -> None:
    wired = Wired()
    wired.connection.pause_reading()
    wired.connection.send(b"a")
    wired.connection.finish(b"because")
    assert wired.transport.heard() == [b"a", b"because"]
    assert wired.transport.is_half_closed
    assert wired.transport.is_reading
    wired.transport.say(b"more")
    assert wired.role.frames == []
    wired.connection.send(b"too late")
    wired.connection.finish(b"too late")
    wired.shell.end_turn()
    assert wired.transport.heard() == [b"a", b"because"]
    wired.transport.lose()
    assert wired.role.notes == ["made", "lost"]
    assert not wired.shell.clock.getDelayedCalls()


def test_who_does_not_close_after_our_last_words_is_cut_off() -> None:
    wired = Wired()
    wired.connection.finish()
    wired.shell.clock.advance(LINGER_S)
    assert wired.transport.is_aborted


def test_an_aborted_connection_forgets_its_output() -> None:
    wired = Wired()
    wired.connection.send(b"secret")
    wired.connection.abort()
    wired.shell.end_turn()
    assert wired.transport.is_aborted
    assert wired.transport.written == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\0\0\0", id="an empty frame"),
        pytest.param(b"\x00\x10\x00\x01", id="a frame above the limit, before it has come"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_a_stream_that_is_no_frames_is_told_to_the_role(data: bytes) -> None:
    wired = Wired()
    wired.connection.dataReceived(frame(b"good") + data)
    assert wired.role.frames == [b"good"]
    assert "bytes; 1 to 1048576 are allowed" in wired.role.notes[-1]


def test_all_connections_end_together() -> None:
    shell = Shell()
    ends: list[object] = []
    shell.connections.finish_all().addCallback(ends.append)
    assert ends == [None]
    wired = [shell.accept(), shell.accept()]
    shell.connections.finish_all().addCallback(ends.append)
    wired[0].lose()
    assert ends == [None]
    wired[1].lose()
    assert ends == [None, None]
    assert not shell.connections.alive
