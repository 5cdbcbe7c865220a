"""Strange and hostile byte streams: they end their own connection, and nothing else happens."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_support import TWO, FakeTransport, Shell, accept, client_hello, encode, heartbeat, learn, peer_hello, request

from paxos_twisted.limits import HANDSHAKE_BYTES_MAX, HANDSHAKE_TIMEOUT_S, HANDSHAKES_MAX
from paxos_twisted.wire.frames import frame

CLIENT_STREAM = b"".join(map(frame, [encode(client_hello()), *(request(seq) for seq in range(1, 6))]))
PEER_STREAM = b"".join(map(frame, [encode(peer_hello()), encode(accept()), encode(heartbeat()), encode(learn())]))


def is_over(transport: FakeTransport) -> bool:
    return transport.is_aborted or transport.is_half_closed


def feed(transport: FakeTransport, data: bytes, rng: random.Random) -> None:
    """Send bytes in chunks, as long as the connection lasts."""
    while data and not is_over(transport):
        size = rng.randint(1, 1 + len(data))
        transport.protocol.dataReceived(data[:size])
        data = data[size:]


def check_undisturbed(shell: Shell, client: FakeTransport, peer: FakeTransport) -> None:
    """Those who were there before are still served, and only valid input has reached the driver."""
    assert not is_over(client)
    shell.requests.taken.clear()
    client.say(request(1000, client=1))
    assert [command.seq for _, command in shell.requests.taken] == [1000]
    if shell.links.streams[TWO].connection is peer.protocol:  # a valid greeting of node 2 would have replaced it
        shell.received.clear()
        peer.say(encode(heartbeat(stamp=1000)))
        assert shell.received == [(TWO, heartbeat(stamp=1000))]
    shell.end_turn()


def attack(data: bytes, rng: random.Random) -> None:
    shell = Shell()
    client, peer = shell.accept_client(client=1), shell.accept_peer(TWO)
    stranger = shell.accept()
    feed(stranger, data, rng)
    for raw, command in shell.requests.taken:
        assert shell.clients.decode(raw) == command
    for src, message in shell.received:
        assert src == TWO
        assert getattr(message, "sender", TWO) == TWO
    shell.end_turn()
    check_undisturbed(shell, client, peer)
    stranger.lose()
    shell.clock.advance(60)
    assert shell.listener.greeting == 0
    assert stranger.protocol not in shell.connections.alive


@given(st.binary(max_size=2000), st.randoms(use_true_random=False))
def test_random_bytes(data: bytes, rng: random.Random) -> None:
    attack(data, rng)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10), st.randoms(use_true_random=False))
def test_random_frames(payloads: list[bytes], rng: random.Random) -> None:
    attack(b"".join(map(frame, payloads)), rng)


@given(st.booleans(), st.lists(st.binary(min_size=1, max_size=300), max_size=10), st.randoms(use_true_random=False))
def test_random_frames_behind_a_valid_greeting(is_peer: bool, payloads: list[bytes], rng: random.Random) -> None:
    hello = encode(peer_hello()) if is_peer else encode(client_hello())
    attack(b"".join(map(frame, [hello, *payloads])), rng)


def cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 20)]


def flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randint(1, 20))


def repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randint(1, 60)]


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [cut, flip, insert, repeat]


@given(
    st.sampled_from([CLIENT_STREAM, PEER_STREAM]),
    st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_damaged_streams(
    stream: bytes, mutations: list[Callable[[bytearray, random.Random], None]], rng: random.Random
) -> None:
    data = bytearray(stream)
    for mutate in mutations:
        if data:
            mutate(data, rng)
    attack(bytes(data), rng)


def test_who_says_nothing_is_cut_off_after_a_while() -> None:
    shell = Shell()
    silent, slow = shell.accept(), shell.accept()
    for byte in frame(encode(client_hello()))[:-1]:
        slow.protocol.dataReceived(bytes([byte]))
    shell.clock.advance(HANDSHAKE_TIMEOUT_S)
    assert silent.is_aborted
    assert slow.is_aborted
    assert shell.connections.rejected == {("client", "timeout"): 2}


def test_a_stranger_may_not_make_us_keep_much() -> None:
    shell = Shell()
    stranger = shell.accept()
    stranger.protocol.dataReceived((HANDSHAKE_BYTES_MAX + 1).to_bytes(4, "big"))
    assert stranger.is_aborted


def test_strangers_beyond_the_limit_are_turned_away_and_room_comes_back() -> None:
    shell = Shell()
    strangers = [shell.accept() for _ in range(HANDSHAKES_MAX)]
    assert shell.listener.buildProtocol(None) is None
    strangers[0].lose()
    shell.accept()
    strangers[1].say(encode(client_hello()))
    shell.accept()
    assert shell.listener.buildProtocol(None) is None


def test_a_client_that_is_welcome_is_not_timed_out() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.clock.advance(3600)
    assert not is_over(client)
    assert not shell.clock.getDelayedCalls()


@pytest.mark.parametrize("payload", [b"\x98" + b"\x91" * 4000, b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_first_frames_that_promise_more_than_they_hold(payload: bytes) -> None:
    shell = Shell()
    stranger = shell.accept()
    stranger.say(payload)
    assert stranger.is_half_closed
    assert shell.connections.rejected == {("client", "frame"): 1}
