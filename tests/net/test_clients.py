"""The client port: greetings, requests in, replies out, and what happens when somebody does not keep up."""

from typing import Any

import msgspec
import pytest
from net_support import ME, THREE, TWO, FakeTransport, Shell, client_hello, encode, read_greeting, rejection, request

from paxos_twisted.apps.bank import BALANCE, Bank, BankOp, BankResult
from paxos_twisted.core.command import NOOP, Command
from paxos_twisted.limits import CLIENT_BUFFER_BYTES_MAX, COMMAND_BYTES_MAX, SESSION_WINDOW, SESSIONS_PER_CONNECTION_MAX
from paxos_twisted.net.clients import RETRY_AFTER_MS
from paxos_twisted.types import NO_NODE, ClientId, NodeId
from paxos_twisted.wire.client import Answer, NoLeader, ProtocolError, Redirect, Refused, Reply, Unknown
from paxos_twisted.wire.handshake import ClientWelcome

_reply = msgspec.msgpack.Decoder(Answer | Refused | Redirect | NoLeader | Unknown | ProtocolError)
SEVEN = ClientId(7)


def replies(transport: FakeTransport) -> list[Reply]:
    """What a client has got behind its welcome."""
    return [_reply.decode(payload) for payload in read_greeting(transport).rest]


def answer(seq: int, client: int = 7, balance: int = 10, error: str | None = None) -> Answer:
    return Answer(ClientId(client), seq, BankResult(3, balance, error))


def on_wire(reply: Any) -> Reply:
    return _reply.decode(encode(reply))


# Greeting


def test_a_client_is_welcomed_with_what_a_session_needs() -> None:
    client = Shell().accept_client()
    greeting, rest = read_greeting(client)
    assert greeting == ClientWelcome(1, "demo", ME, 99, SESSION_WINDOW)
    assert rest == [], "the leader has nothing to add"


@pytest.mark.parametrize(
    ("leader", "said"),
    [
        pytest.param(TWO, Redirect(SEVEN, 0, TWO, "127.0.0.1:7102"), id="a follower names the leader"),
        pytest.param(THREE, Redirect(SEVEN, 0, THREE, "127.0.0.1:7103"), id="whoever it is"),
        pytest.param(
            NO_NODE, NoLeader(SEVEN, 0, RETRY_AFTER_MS, "node 1 knows no leader now"), id="or says that there is none"
        ),
    ],
)
def test_where_to_go_is_said_on_connecting(leader: NodeId, said: Reply) -> None:
    shell = Shell()
    shell.requests.leader = leader
    assert replies(shell.accept_client()) == [said]
    assert shell.metrics.client_redirects["connect"] == (leader != NO_NODE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"cluster": "other"}, "cluster", id="another cluster"),
        pytest.param({"application": "kv"}, "application", id="another application"),
        pytest.param({"version": 7}, "version", id="another version"),
    ],
)
def test_a_rejected_client_is_told_why(fields: dict[str, Any], reason: str) -> None:
    shell = Shell()
    client = shell.accept()
    client.say(encode(client_hello(**fields)), request())
    assert rejection(client) == reason
    assert client.is_half_closed
    assert shell.requests.taken == []
    assert shell.connections.rejected == {("client", reason): 1}


def test_connections_beyond_the_limit_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxos_twisted.net.clients.CLIENT_CONNECTIONS_MAX", 2)
    shell = Shell()
    first, second = shell.accept_client(), shell.accept_client()
    assert rejection(shell.accept_client()) == "full"
    first.lose()
    assert read_greeting(shell.accept_client()).greeting == read_greeting(second).greeting


# Requests and replies


def test_requests_reach_the_driver_as_the_bytes_that_came() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1), request(2))
    assert [raw for raw, _ in shell.requests.taken] == [request(1), request(2)]
    assert [command.seq for _, command in shell.requests.taken] == [1, 2]


def test_requests_behind_the_greeting_in_the_same_chunk_are_taken() -> None:
    shell = Shell()
    client = shell.accept()
    client.say(encode(client_hello()), request(1))
    assert len(shell.requests.taken) == 1


def test_a_turn_writes_all_replies_of_a_client_at_once() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.written.clear()
    client.say(*(request(seq) for seq in range(1, 101)))
    for seq in range(1, 101):
        shell.clients.reply(7, answer(seq))
    shell.end_turn()
    assert len(client.written) == 1
    assert [_reply.decode(payload) for payload in client.heard()] == [on_wire(answer(seq)) for seq in range(1, 101)]


def test_a_reply_goes_where_its_client_asked_last() -> None:
    shell = Shell()
    old, new = shell.accept_client(), shell.accept_client()
    old.say(request(1))
    new.say(request(1))
    shell.clients.reply(7, answer(1))
    shell.end_turn()
    assert replies(old) == []
    assert replies(new) == [on_wire(answer(1))]
    old.say(request(2))
    shell.clients.reply(7, answer(2))
    shell.end_turn()
    assert replies(old) == [on_wire(answer(2))]


def test_one_connection_may_speak_for_many_clients() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1, client=7), request(1, client=8))
    assert 7 in shell.clients.connected
    assert 8 in shell.clients.connected
    shell.clients.reply(8, answer(1, client=8))
    shell.clients.reply(7, answer(1, client=7))
    shell.end_turn()
    assert replies(client) == [on_wire(answer(1, 8)), on_wire(answer(1, 7))]
    assert shell.metrics.client_requests["deposit", "ok"] == 2


def test_a_reply_for_a_client_that_has_gone_is_dropped() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1))
    client.lose()
    shell.clients.reply(7, answer(1))
    assert 7 not in shell.clients.connected
    assert shell.clients.by_client == {}
    assert len(shell.clients.streams) == 0


def test_a_lost_connection_does_not_take_its_client_away_from_a_newer_one() -> None:
    shell = Shell()
    old, new = shell.accept_client(), shell.accept_client()
    old.say(request(1))
    new.say(request(1))
    old.lose()
    shell.clients.reply(7, answer(1))
    shell.end_turn()
    assert replies(new) == [on_wire(answer(1))]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        pytest.param(answer(1), "ok", id="done"),
        pytest.param(answer(1, error="not enough funds"), "rejected", id="the bank says no"),
        pytest.param(Redirect(SEVEN, 1, TWO, "x:1"), "redirected", id="redirected"),
        pytest.param(NoLeader(SEVEN, 1, 20, ""), "no_leader", id="no leader"),
        pytest.param(Refused(SEVEN, 1, "overloaded", ""), "overloaded", id="overloaded"),
        pytest.param(Refused(SEVEN, 1, "disk-full", ""), "disk_full", id="disk full"),
        pytest.param(Refused(SEVEN, 1, "expired", ""), "refused", id="session expired"),
        pytest.param(Unknown(SEVEN, 1, ""), "unknown", id="fate unknown"),
    ],
)
def test_outcomes_are_counted_once(reply: Reply, outcome: str) -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1))
    shell.clock.rightNow += 0.005
    for _ in range(2):  # the second one answers a repetition
        shell.clients.reply(7, reply)
    shell.end_turn()
    assert {key: n for key, n in shell.metrics.client_requests.items() if n} == {("deposit", outcome): 1}
    assert shell.metrics.client_redirects["request"] == (outcome == "redirected")
    assert len(replies(client)) == 2


def test_the_time_from_request_to_answer_is_measured() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1), request(2))
    shell.on_flush = lambda: [shell.clients.reply(7, answer(seq)) for seq in (1, 2)] and None
    shell.clock.advance(0.005)
    shell.turn.soon()
    shell.end_turn()
    durations = shell.metrics.client_request_duration["deposit"]
    assert durations.counts == [0, 2, 0, 0]
    assert durations.sum == pytest.approx(0.010)


# What is no request


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(NOOP, id="the no-op, which only proposers make"),
        pytest.param(b"\xc1", id="a byte that msgpack does not know"),
        pytest.param(encode([1, 7, -1, 1, 1, "deposit"]), id="an operation of no application"),
        pytest.param(encode([1, -7, -1, 1, 1, [1, 2, 3]]), id="a negative client"),
        pytest.param(encode([1, 7, -1, 0, 1, [1, 2, 3]]), id="sequence number 0"),
        pytest.param(encode([2, 7, -1, 1, 1, [1, 2, 3]]), id="another tag"),
        pytest.param(encode(answer(1)), id="an answer"),
        pytest.param(encode(client_hello()), id="a second greeting"),
        pytest.param(request() + request(), id="two requests in one frame"),
        pytest.param(request()[:-1], id="a request cut short"),
        pytest.param(b"\x97" + request()[1:] + b"\x91" * 900 + b"\xc0", id="a nested seventh field"),
        pytest.param(b"\x97" + request()[1:] + b"\x91" * 100_000, id="a field nested a hundred thousand deep"),
    ],
)  # fmt: skip
def test_what_is_no_request_ends_that_connection_only(payload: bytes) -> None:
    shell = Shell()
    bystander, client = shell.accept_client(client=8), shell.accept_client()
    client.say(request(1), payload, request(2))
    shell.end_turn()
    (reply,) = replies(client)
    assert isinstance(reply, ProtocolError)
    assert reply.text.startswith("this is no request of the application 'bank': ")
    assert client.is_half_closed
    assert len(shell.requests.taken) == 1
    assert shell.connections.rejected == {("client", "frame"): 1}
    bystander.say(request(1, client=8))
    assert len(shell.requests.taken) == 2
    assert shell.flushes > 0


def test_a_broken_stream_is_answered_and_closed() -> None:
    client = Shell().accept_client()
    client.protocol.dataReceived(b"\xff\xff\xff\xff")
    (reply,) = replies(client)
    assert isinstance(reply, ProtocolError)


def test_a_command_that_is_too_large_is_refused_by_name() -> None:
    shell = Shell()
    client = shell.accept_client()
    stream = next(iter(shell.clients.streams))
    shell.clients.decode = lambda payload: Command(SEVEN, -1, 5, 1, None)  # type: ignore[assignment]
    client.say(bytes(COMMAND_BYTES_MAX + 1))
    shell.end_turn()
    (reply,) = replies(client)
    assert isinstance(reply, Refused)
    assert (reply.seq, reply.reason) == (5, "invalid")
    assert shell.requests.taken == []
    assert stream.connection.is_open


def test_a_connection_speaks_for_a_bounded_number_of_clients() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(*(request(1, client=number) for number in range(SESSIONS_PER_CONNECTION_MAX + 1)))
    assert len(shell.requests.taken) == SESSIONS_PER_CONNECTION_MAX
    assert client.is_half_closed
    client.lose()
    assert shell.clients.by_client == {}


# Back-pressure


def test_when_the_driver_is_congested_clients_wait_and_nothing_is_lost() -> None:
    shell = Shell()
    clients = [shell.accept_client(client=number) for number in (1, 2)]
    shell.requests.is_congested = True
    for number, client in enumerate(clients, 1):
        client.say(request(1, number), request(2, number))
        assert not client.is_reading
    assert shell.requests.taken == []
    shell.turn.soon()
    shell.end_turn()
    assert shell.requests.taken == []
    shell.requests.is_congested = False
    shell.turn.soon()
    shell.end_turn()
    assert [(command.client, command.seq) for _, command in shell.requests.taken] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(client.is_reading for client in clients)


def test_held_clients_are_taken_one_by_one_until_the_driver_has_enough_again() -> None:
    shell = Shell()
    clients = [shell.accept_client(client=number) for number in (1, 2)]
    shell.requests.is_congested = True
    for number, client in enumerate(clients, 1):
        client.say(request(1, number))

    def fill(command: Command[Any]) -> None:
        shell.requests.is_congested = True

    shell.requests.on_each = fill
    for taken in (1, 2):
        shell.requests.is_congested = False
        shell.turn.soon()
        shell.end_turn()
        assert len(shell.requests.taken) == taken
    assert [client.is_reading for client in clients] == [True, True]


def test_what_comes_behind_held_requests_waits_behind_them() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.requests.is_congested = True
    client.say(request(1))
    shell.requests.is_congested = False
    client.say(request(2))  # was read already when the transport was paused
    assert shell.requests.taken == []
    shell.turn.soon()
    shell.end_turn()
    assert [command.seq for _, command in shell.requests.taken] == [1, 2]


def test_held_requests_that_are_too_many_at_once_stay_in_order() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.requests.is_congested = True
    for seq in (1, 2, 3):
        client.say(request(seq))

    def fill(command: Command[Any]) -> None:
        shell.requests.is_congested = command.seq < 3

    shell.requests.on_each = fill
    for taken in (1, 2, 3):
        shell.requests.is_congested = False
        shell.turn.soon()
        shell.end_turn()
        assert [command.seq for _, command in shell.requests.taken] == list(range(1, taken + 1))
        assert client.is_reading is (taken == 3)


def test_a_held_client_that_goes_away_is_forgotten() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.requests.is_congested = True
    client.say(request(1))
    client.lose()
    shell.requests.is_congested = False
    shell.turn.soon()
    shell.end_turn()
    assert shell.requests.taken == []


def test_nonsense_that_was_held_ends_its_connection_later() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.requests.is_congested = True
    client.protocol.dataReceived(b"\xff\xff\xff\xff")
    shell.requests.is_congested = False
    shell.turn.soon()
    shell.end_turn()
    assert client.is_half_closed
    assert client.is_reading, "else its end would never be seen"


def test_a_client_that_does_not_read_its_answers_is_not_read() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.protocol.pauseProducing()
    assert not client.is_reading
    client.protocol.resumeProducing()
    assert client.is_reading


def test_a_client_that_never_reads_its_answers_is_cut_off_and_others_are_not() -> None:
    shell = Shell()
    client, bystander = shell.accept_client(), shell.accept_client(client=8)
    client.say(request(1))
    bystander.say(request(1, client=8))
    client.protocol.pauseProducing()
    big = answer(1, error="x" * 100_000)
    for _ in range(CLIENT_BUFFER_BYTES_MAX // 100_000 + 5):
        shell.clients.reply(7, big)
        shell.clients.reply(8, answer(1, client=8))
    shell.end_turn()
    assert client.is_aborted
    assert shell.connections.rejected == {("client", "slow"): 1}
    assert not bystander.is_aborted
    assert replies(bystander)


def test_many_large_answers_in_one_turn_are_no_reason_to_cut_a_client_off_that_reads() -> None:
    shell = Shell()
    client = shell.accept_client()
    client.say(request(1))
    big = answer(1, error="x" * 100_000)
    count = 2 * CLIENT_BUFFER_BYTES_MAX // 100_000
    for _ in range(count):
        shell.clients.reply(7, big)
    shell.end_turn()
    assert len(replies(client)) == count


class RereadingBank(Bank):
    """Enquiries may be made again."""

    def is_reread(self, op: BankOp) -> bool:
        return op.kind == BALANCE


def test_reads_that_ask_for_more_than_is_kept_come_again_and_writes_are_answered() -> None:
    shell = Shell(application=RereadingBank())
    client = shell.accept_client()
    count = CLIENT_BUFFER_BYTES_MAX // 100_000
    for seq in range(1, count + 1):
        client.say(encode(Command(SEVEN, -1, seq, 1, BankOp(BALANCE, 3))))
    client.say(request(count + 1))
    client.protocol.pauseProducing()  # what is sent stays with us
    for seq in range(1, count + 1):
        shell.clients.reply(7, answer(seq, error="x" * 100_000))
    shell.clients.reply(7, answer(count + 1))
    client.protocol.resumeProducing()
    shell.end_turn()
    said = replies(client)
    assert not client.is_aborted
    assert [reply.seq for reply in said] == [*range(1, count + 2)]
    refused = [reply for reply in said if isinstance(reply, Refused)]
    assert count // 3 < len(refused) < count
    assert {reply.reason for reply in refused} == {"overloaded"}
    assert isinstance(said[-1], Answer), "a write was applied: it is answered, whatever waits"


# Stopping


def test_a_stopping_node_sends_clients_elsewhere() -> None:
    shell = Shell()
    client = shell.accept_client()
    shell.clients.is_draining = True
    client.say(request(1))
    shell.end_turn()
    (reply,) = replies(client)
    assert isinstance(reply, NoLeader)
    assert (reply.seq, reply.text) == (1, "node 1 is stopping; ask another node")
    assert shell.requests.taken == []
    assert rejection(shell.accept_client()) == "full"
