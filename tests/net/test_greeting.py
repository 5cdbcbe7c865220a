"""Who is let in: every way in which a handshake can fail, and what cannot be a handshake at all."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_support import ME, THREE, TWO, client_hello, encode, local_node, peer_hello

from paxos_twisted.net.greeting import GreetingError, read_hello, read_peer_greeting
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, PeerHello, PeerWelcome, Rejected

SECRET = "a-secret-of-the-cluster"


@pytest.mark.parametrize(
    ("changes", "secret", "reason"),
    [
        pytest.param({}, "", None, id="a peer of the cluster is let in"),
        pytest.param({"sender": THREE}, "", None, id="another one too"),
        pytest.param({"version": 2}, "", "version", id="another protocol version is refused"),
        pytest.param({"cluster": "other"}, "", "cluster", id="another cluster is refused"),
        pytest.param({"receiver": THREE}, "", "node", id="who looks for another node is refused"),
        pytest.param({"sender": ME}, "", "node", id="ourselves are refused"),
        pytest.param({"sender": 4}, "", "node", id="a node that is no member is refused"),
        pytest.param({"settings": "other"}, "", "settings", id="other settings are refused"),
        pytest.param({"credential": SECRET}, SECRET, None, id="the secret is accepted"),
        pytest.param({"credential": ""}, SECRET, "credential", id="no secret is refused"),
        pytest.param({"credential": SECRET + "x"}, SECRET, "credential", id="a wrong secret is refused"),
        pytest.param({"credential": "ü"}, SECRET, "credential", id="a secret with other letters is refused"),
        pytest.param({"credential": "x"}, "", None, id="a secret that nobody asked for does not matter"),
        pytest.param(
            {"credential": "x", "sender": 4, "settings": "other"}, SECRET, "credential",
            id="strangers learn nothing but that their secret is wrong",
        ),
    ],
)  # fmt: skip
def test_peers(changes: dict[str, Any], secret: str, reason: str | None) -> None:
    rejected = local_node(secret=secret).check_peer(peer_hello(**changes))
    assert (rejected and rejected.reason) == reason
    assert rejected is None or SECRET not in rejected.text


@pytest.mark.parametrize(
    ("changes", "secret", "reason"),
    [
        pytest.param({}, "", None, id="a client of the cluster is let in"),
        pytest.param({"version": 0}, "", "version", id="another protocol version is refused"),
        pytest.param({"cluster": "other"}, "", "cluster", id="another cluster is refused"),
        pytest.param({"application": "kv"}, "", "application", id="another application is refused"),
        pytest.param({}, SECRET, None, id="clients need no secret"),
        pytest.param({"credential": "x"}, SECRET, "credential", id="a wrong one is refused all the same"),
    ],
)
def test_clients(changes: dict[str, Any], secret: str, reason: str | None) -> None:
    rejected = local_node(secret=secret).check_client(client_hello(**changes))
    assert (rejected and rejected.reason) == reason


def test_a_node_greets_with_what_its_peer_expects() -> None:
    hello = local_node(secret=SECRET).hello_to(TWO, 42)
    assert local_node(node=TWO, secret=SECRET).check_peer(hello) is None
    assert hello.progress == 42


@pytest.mark.parametrize(
    "hello",
    [pytest.param(peer_hello(), id="a peer's greeting"), pytest.param(client_hello(), id="a client's greeting")],
)
def test_greetings_are_read(hello: PeerHello | ClientHello) -> None:
    assert read_hello(encode(hello)) == hello


@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_random_bytes_are_no_greeting(payload: bytes) -> None:
    with pytest.raises(GreetingError):
        read_hello(payload)


@pytest.mark.fuzz
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_greeting_is_read_or_refused_but_nothing_else_happens(at: int, value: int) -> None:
    payload = bytearray(encode(peer_hello()))
    payload[at % len(payload)] = value
    with contextlib.suppress(GreetingError):
        read_hello(bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x98" + b"\x91" * 5000, id="nested five thousand deep"),
        pytest.param(encode(["x"] * 1000), id="a thousand fields"),
        pytest.param(encode([102, 1, "x" * 200, 2, 1, "", "", 0]), id="a cluster name of 200 letters"),
        pytest.param(encode([102, 1, "demo", 2, 1, "", "", -1.5]), id="a progress that is no whole number"),
        pytest.param(encode([102, 1, b"demo", 2, 1, "", "", 0]), id="a name that is bytes"),
    ],
)  # fmt: skip
def test_greetings_out_of_shape_are_refused(payload: bytes) -> None:
    with pytest.raises(GreetingError):
        read_hello(payload)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(PeerWelcome(PROTOCOL_VERSION, TWO, "id"), None, id="a welcome of the node that we dialled"),
        pytest.param(PeerWelcome(PROTOCOL_VERSION, THREE, "id"), "node", id="another node answers there"),
        pytest.param(PeerWelcome(9, TWO, "id"), "version", id="a welcome in another version"),
        pytest.param(Rejected("settings", "because"), "settings", id="a rejection stays what it is"),
    ],
)
def test_answers_of_peers(answer: PeerWelcome | Rejected, reason: str | None) -> None:
    read = read_peer_greeting(encode(answer), TWO)
    assert (read.reason if isinstance(read, Rejected) else None) == reason


def test_an_answer_that_is_none_is_an_error() -> None:
    with pytest.raises(GreetingError):
        read_peer_greeting(encode(peer_hello()), TWO)
