"""Messages between nodes: encoded once, counted, checked against who may say them, and faulted on order."""

import random
from typing import Any

import pytest
from net_support import (
    ME,
    THREE,
    TWO,
    FakeTransport,
    Shell,
    accept,
    encode,
    heartbeat,
    learn,
    peer_hello,
    read_greeting,
    rejection,
)
from twisted.internet.error import ConnectionRefusedError

from paxos_twisted.core.multipaxos.messages import HeartbeatRequest, Promise, Vote
from paxos_twisted.core.transfer import SnapshotData
from paxos_twisted.limits import FAULT_MESSAGES_HELD_MAX, FRAME_BYTES_MAX
from paxos_twisted.net.faults import FaultLayer, parse_rule
from paxos_twisted.net.peers import PeerLinks
from paxos_twisted.types import NodeId
from paxos_twisted.wire.handshake import PeerWelcome


def started() -> tuple[Shell, FakeTransport, FakeTransport]:
    """A node whose links to both peers are up."""
    shell = Shell()
    shell.links.start()
    return shell, shell.link_up(TWO), shell.link_up(THREE)


def faulty(shell: Shell, *rules: str) -> FaultLayer:
    faults = FaultLayer([parse_rule(rule) for rule in rules], random.Random(1), shell.links.now_ms())
    shell.links.set_faults(faults)
    return faults


# Sending


def test_a_message_goes_to_its_receivers_and_is_encoded_once() -> None:
    shell, two, three = started()
    encoded: list[Any] = []
    shell.links._encode = lambda message: encoded.append(message) or encode(message)  # type: ignore[func-returns-value]
    message = accept(ME)
    shell.links.send((TWO, THREE), message)
    shell.links.send((THREE,), heartbeat(ME))
    shell.end_turn()
    assert two.heard() == [encode(message)]
    assert three.heard() == [encode(message), encode(heartbeat(ME))]
    assert encoded == [message, heartbeat(ME)]


def test_messages_are_counted_by_peer_and_type() -> None:
    shell, _, _ = started()
    shell.links.send((TWO, THREE), accept(ME))
    shell.links.send((TWO,), learn(ME))
    counts = {
        node: {kind.__name__: n for kind, n in link.sent.items() if n} for node, link in shell.links.links.items()
    }
    assert counts == {TWO: {"Accept": 1, "Learn": 1}, THREE: {"Accept": 1}}


def test_all_types_are_counted_from_the_start() -> None:
    shell = Shell()
    names = {kind.__name__ for kind in shell.links.kinds}
    assert {"Prepare", "Accept", "Learn", "SnapshotData", "Progress"} <= names
    assert {kind.__name__ for kind in shell.links.links[TWO].sent} == names


def test_what_was_sent_in_the_turn_of_a_stop_still_goes_out() -> None:
    shell, two, _ = started()
    shell.links.send((TWO,), heartbeat(ME))
    shell.links.stop()
    assert two.heard() == [encode(heartbeat(ME))]
    assert two.is_half_closed


# Receiving


def test_a_peer_is_welcomed_and_heard() -> None:
    shell = Shell()
    peer = shell.accept_peer(TWO)
    assert read_greeting(peer).greeting == PeerWelcome(1, ME, "identity-1")
    peer.say(encode(accept()), encode(heartbeat()))
    assert shell.received == [(TWO, accept()), (TWO, heartbeat())]
    assert sum(shell.links.received[TWO].values()) == 2
    assert shell.listener.greeting == 0


def test_messages_behind_the_greeting_in_the_same_chunk_are_heard() -> None:
    shell = Shell()
    peer = shell.accept()
    peer.say(encode(peer_hello()), encode(heartbeat()))
    assert shell.received == [(TWO, heartbeat())]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Promise(ME, TWO, 1001, (Vote(0, 1, b"\xc0"),)), id="a promise"),
        pytest.param(SnapshotData(TWO, 9, 0, b"piece"), id="a piece of a snapshot"),
        pytest.param(accept(values=bytes(2 << 20)), id="a large run, larger than any frame of a client"),
    ],
)
def test_every_kind_of_message_passes(message: Any) -> None:
    shell = Shell()
    shell.accept_peer(TWO).say(encode(message))
    assert shell.received == [(TWO, message)]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(encode(heartbeat(THREE)), id="a message in the name of another node"),
        pytest.param(encode(heartbeat(ME)), id="a message in our own name"),
        pytest.param(encode(SnapshotData(THREE, 9, 0, b"")), id="a transfer in the name of another node"),
        pytest.param(b"\xc0", id="nil"),
        pytest.param(b"\xc1", id="a byte that msgpack does not know"),
        pytest.param(encode([99, 2, 3]), id="an unknown type"),
        pytest.param(encode([3, 2, -1, 5, b""]), id="a slot below 0"),
        pytest.param(encode([3, 2]), id="too few fields"),
        pytest.param(encode(heartbeat()) + b"\x00", id="bytes behind the message"),
        pytest.param(encode(heartbeat())[:-1], id="a message cut short"),
        pytest.param(
            b"\x98" + encode(heartbeat())[1:] + b"\x91" * 100_000, id="a field too many, nested a hundred thousand deep"
        ),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_cut_off_and_nothing_else_happens(payload: bytes) -> None:
    shell = Shell()
    other = shell.accept_peer(THREE)
    peer = shell.accept_peer(TWO)
    peer.say(encode(heartbeat(stamp=1)), payload, encode(heartbeat(stamp=2)))
    assert peer.is_aborted
    assert shell.received == [(TWO, heartbeat(stamp=1))]
    assert shell.connections.rejected == {("peer", "frame"): 1}
    peer.lose()
    other.say(encode(heartbeat(THREE)))
    assert shell.received[-1] == (THREE, heartbeat(THREE))


def test_a_new_stream_of_a_peer_replaces_the_old_one() -> None:
    shell = Shell()
    old = shell.accept_peer(TWO)
    new = shell.accept_peer(TWO)
    assert old.is_aborted
    old.say(encode(heartbeat(stamp=1)))
    old.lose()
    new.say(encode(heartbeat(stamp=2)))
    assert shell.received == [(TWO, heartbeat(stamp=2))]
    assert shell.links.streams[TWO].connection is new.protocol
    assert shell.links.bytes_received(TWO) == old.protocol.bytes_in + new.protocol.bytes_in
    new.lose()
    assert not shell.links.streams


def test_a_peer_that_dials_us_is_dialled_at_once() -> None:
    shell = Shell()
    shell.links.start()
    for _ in range(8):  # until the wait between two attempts is long
        attempt = [attempt for attempt in shell.sockets.attempts if attempt.port == 7102][-1]
        attempt.fail(ConnectionRefusedError())
        shell.clock.advance(1)
    shell.sockets.attempts[-1].fail(ConnectionRefusedError())
    count = len(shell.sockets.attempts)
    shell.accept_peer(TWO)
    assert [attempt.port for attempt in shell.sockets.attempts[count:]] == [7102]
    shell.accept_peer(TWO)
    assert len(shell.sockets.attempts) == count + 1, "it is being dialled"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"version": 2}, "version", id="another version"),
        pytest.param({"settings": "other"}, "settings", id="other settings"),
        pytest.param({"identity": "identity-9"}, "identity", id="another data directory"),
        pytest.param({"progress": 3}, "identity", id="an older data directory"),
    ],
)
def test_a_rejected_peer_is_told_why_and_its_messages_are_not_heard(fields: dict[str, Any], reason: str) -> None:
    shell = Shell()
    shell.known[TWO] = ("identity-2", 4)
    before = shell.accept_peer(TWO)
    peer = shell.accept()
    peer.say(encode(peer_hello(**fields)), encode(heartbeat()))
    assert rejection(peer) == reason
    assert peer.is_half_closed
    assert shell.received == []
    assert shell.connections.rejected == {("peer", reason): 1}
    assert [text.startswith("node 2 is rejected: ") for text in shell.links.rejections()] == [True]
    assert not before.is_aborted, "the stream that was good stays"
    shell.accept_peer(TWO)
    assert shell.links.rejections() == []


def test_strangers_with_ids_of_no_member_are_not_remembered() -> None:
    shell = Shell()
    for node in range(100, 200):
        assert rejection(shell.accept_peer(NodeId(node))) == "node"
    assert shell.links.rejections() == []


# Faults


@pytest.mark.parametrize(
    ("rule", "heard"),
    [
        pytest.param("1->2 loss=1", 0, id="lost"),
        pytest.param("1->2 duplicate=1", 2, id="doubled"),
        pytest.param("2->1 loss=1", 1, id="the other way is not meant"),
    ],
)
def test_sent_messages_pass_the_fault_layer(rule: str, heard: int) -> None:
    shell, two, three = started()
    faulty(shell, rule)
    shell.links.send((TWO, THREE), heartbeat(ME))
    shell.end_turn()
    assert two.heard() == [encode(heartbeat(ME))] * heard
    assert three.heard() == [encode(heartbeat(ME))]


def test_delayed_messages_come_late_and_in_order() -> None:
    shell, two, _ = started()
    faulty(shell, "1->2 delay=50ms")
    for stamp in range(3):
        shell.links.send((TWO,), heartbeat(ME, stamp))
    shell.clock.advance(0.049)
    assert two.heard() == []
    shell.clock.advance(0.002)
    shell.end_turn()
    assert two.heard() == [encode(heartbeat(ME, stamp)) for stamp in range(3)]


def test_a_message_that_is_not_delayed_does_not_overtake_one_that_is_due_now() -> None:
    shell, two, _ = started()
    faulty(shell, "1->2 kinds=Accept delay=50ms")
    shell.links.send((TWO,), accept(ME))
    shell.clock.rightNow += 0.05  # the timer has not run yet
    shell.links.send((TWO,), learn(ME))
    shell.end_turn()
    assert two.heard() == [encode(accept(ME)), encode(learn(ME))]


def test_taking_the_faults_out_releases_what_they_hold() -> None:
    shell, two, _ = started()
    faults = faulty(shell, "*->* pause=60s")
    shell.links.send((TWO,), heartbeat(ME))
    shell.links.set_faults(None)
    shell.end_turn()
    assert two.heard() == [encode(heartbeat(ME))]
    assert faults.delayed == 1
    assert not shell.clock.getDelayedCalls()


def test_messages_dropped_by_faults_are_counted_for_ever() -> None:
    shell, _, _ = started()
    faulty(shell, "1->2 loss=1")
    shell.links.send((TWO,), heartbeat(ME))
    faulty(shell, "1->2 loss=1")
    shell.links.send((TWO,), heartbeat(ME))
    shell.links.set_faults(None)
    assert shell.links.dropped() == {"injected": 2, "overflow": 0, "unconnected": 0}


def test_a_partition_set_on_one_node_cuts_what_it_hears_too() -> None:
    shell, two, _ = started()
    peer = shell.accept_peer(TWO)
    faulty(shell, "1<->2 partition")
    shell.links.send((TWO,), heartbeat(ME))
    peer.say(encode(heartbeat()))
    shell.end_turn()
    assert two.heard() == []
    assert shell.received == []
    assert shell.links.faults is not None
    assert shell.links.faults.dropped == 2


def test_held_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FAULT_MESSAGES_HELD_MAX >= 10_000
    monkeypatch.setattr("paxos_twisted.net.held.FAULT_MESSAGES_HELD_MAX", 10)
    shell, _, _ = started()
    faulty(shell, "1->2 delay=1s")
    for _ in range(15):
        shell.links.send((TWO,), heartbeat(ME))
    assert shell.links.dropped()["overflow"] == 5


def test_a_stop_forgets_what_is_held() -> None:
    shell, two, _ = started()
    faulty(shell, "1->2 delay=1s")
    shell.links.send((TWO,), heartbeat(ME))
    shell.links.stop()
    assert two.heard() == []
    two.lose()
    assert [call for call in shell.clock.getDelayedCalls() if call.func == shell.links._held.release_due] == []


def test_a_message_that_no_peer_would_take_is_not_sent() -> None:
    shell, two, _ = started()
    shell.links.send((TWO,), accept(ME, bytes(FRAME_BYTES_MAX)))
    shell.links.send((TWO,), heartbeat(ME))
    shell.end_turn()
    assert two.heard() == [encode(heartbeat(ME))]


def test_a_message_type_alone_is_no_union() -> None:
    shell = Shell()
    links = PeerLinks(
        local=shell.local, addresses={}, message_type=HeartbeatRequest, sockets=shell.sockets,  # type: ignore[arg-type]
        connections=shell.connections, receive=lambda src, message: None, on_link=lambda node, state: None,
        progress=lambda: 0, guard=shell.guard, check_identity=lambda node, identity: None, rng=random.Random(1),
    )  # fmt: skip
    assert links.kinds == (HeartbeatRequest,)
