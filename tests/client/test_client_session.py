"""A session moves from node to node and ends each request once, whatever the nodes do."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from client_stage import Node, Stage
from paxos_twisted_client.connection import (
    CLOSED,
    ERROR,
    NO_LEADER,
    REDIRECT,
    TIMEOUT_DIAL,
    TIMEOUT_READ,
    TIMEOUT_WRITE,
)
from paxos_twisted_client.limits import HOPS_MAX, OUTSTANDING_MAX
from paxos_twisted_client.session import Request, WindowFullError
from twisted.logger import globalLogPublisher

from paxos_twisted.apps.bank import DEPOSIT, BankOp, BankResult
from paxos_twisted.core.command import CLIENT_ID_MAX, Series
from paxos_twisted.limits import SESSION_WINDOW
from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import Answer, Answers, NoLeader, ProtocolError, Refused, Unknown
from paxos_twisted.wire.frames import frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome, Rejected

OP = BankOp(DEPOSIT, 17, 100)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.end()


def reconnects(stage: Stage) -> dict[str, int]:
    return {cause: count for cause, count in stage.pool.reconnects.items() if count}


# One trouble at the first node, then the second one answers.


def redirect_on_connect(stage: Stage) -> None:
    first, second, _ = stage.nodes
    first.welcome(first.redirection(second))
    assert first.hears_requests() == []


def redirect_on_request(stage: Stage) -> None:
    first, second, _ = stage.nodes
    first.welcome()
    (command,) = first.hears_requests()
    first.redirect(command, second)


def redirect_behind_the_welcome(stage: Stage) -> None:
    first, second, _ = stage.nodes
    first.welcome()
    (command,) = first.hears_requests()
    first.say(first.redirection(second))
    assert not second.is_dialled, "the request under way gets its own reply"
    first.redirect(command, second)


def no_leader_on_connect(stage: Stage) -> None:
    stage.nodes[0].welcome(NoLeader(ClientId(0), 0, 50, "an election runs"))


def no_leader_on_request(stage: Stage) -> None:
    first = stage.nodes[0].welcome()
    first.no_leader(*first.hears_requests(), retry_after_ms=50)


def unknown(stage: Stage) -> None:
    first = stage.nodes[0].welcome()
    (command,) = first.hears_requests()
    first.say(Unknown(command.client, command.seq, "deposed"))


def dial_refused(stage: Stage) -> None:
    stage.nodes[0].refuse()


def dial_unanswered(stage: Stage) -> None:
    stage.run(0.499)
    assert not stage.nodes[1].is_dialled
    stage.run(0.002)


def no_welcome(stage: Stage) -> None:
    stage.nodes[0].accept()
    stage.run(0.501)


def silence(stage: Stage) -> None:
    stage.nodes[0].welcome()
    stage.run(0.999)
    assert not stage.nodes[1].is_dialled
    stage.run(0.002)


def stuck_write(stage: Stage) -> None:
    wire = stage.nodes[0].welcome().wire
    assert wire is not None
    wire.protocol.pauseProducing()
    stage.run(1.001)


def closed_before_welcome(stage: Stage) -> None:
    stage.nodes[0].accept().close()


def closed_after_request(stage: Stage) -> None:
    stage.nodes[0].welcome().close()


def reset_after_request(stage: Stage) -> None:
    stage.nodes[0].welcome().reset()


def rejected(stage: Stage) -> None:
    stage.nodes[0].accept().say(Rejected("full", "too many connections"))


def other_cluster(stage: Stage) -> None:
    stage.nodes[0].accept().say(ClientWelcome(PROTOCOL_VERSION, "other", stage.nodes[0].node, 3, 10))


def garbage_for_a_welcome(stage: Stage) -> None:
    stage.nodes[0].accept().say_bytes(frame(b"\xc1garbage"))


def garbage_for_an_answer(stage: Stage) -> None:
    stage.nodes[0].welcome().say_bytes(frame(b"\x93\x02\x01"))


def answer_of_a_wrong_type(stage: Stage) -> None:
    first = stage.nodes[0].welcome()
    (command,) = first.hears_requests()
    first.say(Answer(command.client, command.seq, "much money"))


def endless_frame(stage: Stage) -> None:
    stage.nodes[0].welcome().say_bytes(b"\xff\xff\xff\xff")


def protocol_error(stage: Stage) -> None:
    stage.nodes[0].welcome().say(ProtocolError("what?"))


TROUBLES: list[tuple[str, Callable[[Stage], None], str, bool]] = [
    ("a redirect on connecting is followed before a request is sent", redirect_on_connect, REDIRECT, False),
    ("a redirect on a request is followed", redirect_on_request, REDIRECT, False),
    ("a redirect behind the welcome waits for the request's own", redirect_behind_the_welcome, REDIRECT, False),
    ("no leader on connecting: the next node is asked at once", no_leader_on_connect, NO_LEADER, False),
    ("no leader on a request: the next node is asked at once", no_leader_on_request, NO_LEADER, False),
    ("unknown: the request is repeated elsewhere and in doubt", unknown, NO_LEADER, True),
    ("a closed port: the next node is asked at once", dial_refused, ERROR, False),
    ("a dial that nobody answers is given up after the dial timeout", dial_unanswered, TIMEOUT_DIAL, False),
    ("a node that accepts but does not welcome is given up, too", no_welcome, TIMEOUT_DIAL, False),
    ("a silent node is left after the read timeout", silence, TIMEOUT_READ, True),
    ("a node that takes no bytes is left after the write timeout", stuck_write, TIMEOUT_WRITE, True),
    ("a connection closed before the welcome", closed_before_welcome, CLOSED, False),
    ("a connection closed after the request was sent", closed_after_request, CLOSED, True),
    ("a connection reset after the request was sent", reset_after_request, ERROR, True),
    ("a node that is full", rejected, ERROR, False),
    ("a node of another cluster", other_cluster, ERROR, False),
    ("garbage instead of a welcome", garbage_for_a_welcome, ERROR, False),
    ("garbage instead of an answer", garbage_for_an_answer, ERROR, True),
    ("an answer of a wrong type", answer_of_a_wrong_type, ERROR, True),
    ("a frame that is too long", endless_frame, ERROR, True),
    ("a node that does not understand us", protocol_error, ERROR, True),
]


@pytest.mark.parametrize(("trouble", "cause", "doubt"), [row[1:] for row in TROUBLES], ids=[row[0] for row in TROUBLES])
def test_after_trouble_the_next_node_gets_the_same_request(
    stage: Stage, trouble: Callable[[Stage], None], cause: str, doubt: bool
) -> None:
    session = stage.pool.session()
    request = stage.submit(session, OP)
    first, second, third = stage.nodes
    assert stage.dialled == [first]
    trouble(stage)
    assert reconnects(stage) == {cause: 1}
    assert stage.dialled == [second]
    second.welcome()
    (command,) = second.hears_requests()
    assert (command.client, command.seq, command.op) == (session.client, 1, OP)
    assert request.in_doubt is doubt
    assert request.outcome is None
    second.answer(command)
    assert request.outcome == "ok"
    assert request.result == BankResult(17, 7)
    assert not third.dialled
    assert reconnects(stage) == {cause: 1}
    assert stage.pool.leader == "node 2 at 10.0.0.1:7102"


def test_hello_names_cluster_application_and_client_and_nothing_precedes_the_welcome(stage: Stage) -> None:
    session = stage.pool.session()
    stage.submit(session, OP)
    first = stage.nodes[0].accept()
    assert first.hears() == [ClientHello(PROTOCOL_VERSION, "demo", "bank", session.client)]
    assert first.wire is not None
    assert (first.wire.no_delay, first.wire.keep_alive) == (True, True)
    first.welcome(applied=41)
    (command,) = first.hears()
    assert (command.birth, command.seq, command.ack) == (41, 1, 1)
    assert 0 < command.client <= CLIENT_ID_MAX


def test_a_repeated_request_is_the_same_bytes_although_more_is_applied_and_answered_meanwhile(stage: Stage) -> None:
    session = stage.pool.session()
    stage.submit(session, OP)
    stage.submit(session, OP)
    first, second, _ = stage.nodes
    one, two = first.welcome(applied=41).hears_requests()
    first.answer(one)
    first.reset()
    assert (two.birth, two.ack) == (41, 1)
    assert second.welcome(applied=99).hears_requests() == [two]


# Outcomes when time runs out.


def never_reached(stage: Stage) -> None:
    for node in stage.nodes:
        if node.is_dialled:
            node.refuse()


def never_reached_but(stage: Stage, reached: Node) -> None:
    for node in stage.nodes:
        if node.is_dialled and node is not reached:
            node.refuse()


def redirected_forever(stage: Stage) -> None:
    for index, node in enumerate(stage.nodes):
        if node.is_dialled:
            node.welcome(node.redirection(stage.nodes[index - 1]))
        if node.is_connected:
            for command in node.hears_requests():
                node.redirect(command, stage.nodes[index - 1])


def refused_forever(stage: Stage) -> None:
    first = stage.nodes[0]
    if first.is_dialled:
        first.welcome()
    for command in first.hears_requests():
        first.say(Refused(command.client, command.seq, "disk-full", "no space left"))


def silent_forever(stage: Stage) -> None:
    for node in stage.nodes:
        if node.is_dialled:
            node.welcome()


def reset_once(stage: Stage) -> None:
    if stage.nodes[0].dialled == 1 and stage.nodes[0].is_dialled:
        stage.nodes[0].welcome().reset()
    never_reached(stage)


def unknown_once(stage: Stage) -> None:
    first = stage.nodes[0]
    if first.dialled == 1 and first.is_dialled:
        first.welcome()
        (command,) = first.hears_requests()
        first.say(Unknown(command.client, command.seq, "deposed"))
    elif first.is_connected:
        for command in first.hears_requests():
            first.no_leader(command)
    never_reached(stage)


@pytest.mark.parametrize(
    ("play", "outcome", "reason"),
    [
        pytest.param(never_reached, "refused", "timeout", id="never reached: certainly not applied"),
        pytest.param(redirected_forever, "refused", "timeout", id="redirected in circles: certainly not applied"),
        pytest.param(refused_forever, "refused", "disk-full", id="refused for now until the end: not applied"),
        pytest.param(silent_forever, "unknown", "timeout", id="sent and not answered: unknown"),
        pytest.param(reset_once, "unknown", "timeout", id="sent once on a connection that was reset: unknown"),
        pytest.param(unknown_once, "unknown", "timeout", id="proposed by a deposed leader: unknown"),
    ],
)
def test_when_time_runs_out(stage: Stage, play: Callable[[Stage], None], outcome: str, reason: str) -> None:
    ended: list[Request] = []
    stage.pool.session().submit(OP, ended.append)
    stage.clock.advance(0)
    for _ in range(2000):
        play(stage)
        stage.clock.advance(0.005)
        if ended:
            break
    assert 9.9 < stage.clock.seconds() < 10.1
    (request,) = ended
    assert (request.outcome, request.reason) == (outcome, reason)
    assert request.text.startswith("no answer within 10 s")


@pytest.mark.parametrize(
    ("reason", "is_repeated"),
    [
        ("overloaded", True),
        ("disk-full", True),
        ("expired", False),
        ("stale", False),
        ("window", False),
        ("invalid", False),
    ],
)
def test_a_refusal_is_final_or_repeated_with_the_same_seq(stage: Stage, reason: str, is_repeated: bool) -> None:
    session = stage.pool.session()
    request = stage.submit(session, OP)
    first = stage.nodes[0].welcome()
    (command,) = first.hears_requests()
    first.say(Refused(command.client, command.seq, reason, "no"))
    stage.run(0.021)
    if is_repeated:
        assert first.hears_requests() == [command]
        first.answer(command)
        assert request.outcome == "ok"
    else:
        assert first.hears_requests() == []
        assert (request.outcome, request.reason) == ("refused", reason)
    assert session.is_expired is (reason == "expired")
    assert reconnects(stage) == {}


def test_a_final_refusal_of_a_request_in_doubt_is_unknown(stage: Stage) -> None:
    """1. A copy is sent and lost with its connection. 2. It is applied. 3. The session expires. 4. The second copy is
    refused, although the first one was applied."""
    request = stage.submit(stage.pool.session(), OP)
    first, second, _ = stage.nodes
    first.welcome().reset()
    (command,) = second.welcome().hears_requests()
    second.say(Refused(command.client, command.seq, "expired", "who are you?"))
    assert (request.outcome, request.reason) == ("unknown", "expired")


def test_an_expired_session_is_renewed_with_a_new_id_and_a_fresh_welcome(stage: Stage) -> None:
    old = stage.pool.session()
    stage.submit(old, OP)
    first = stage.nodes[0].welcome(applied=5)
    (command,) = first.hears_requests()
    first.say(Refused(command.client, command.seq, "expired", "who are you?"))
    new = stage.pool.renew(old)
    assert new.client != old.client
    request = stage.submit(new, OP)
    stage.clock.advance(0)
    (command,) = first.welcome(applied=500).hears_requests()
    assert (command.client, command.birth, command.seq) == (new.client, 500, 1)
    first.answer(command)
    assert request.outcome == "ok"
    assert reconnects(stage) == {}


def test_all_nodes_reject_us_so_the_request_ends_at_once(stage: Stage) -> None:
    request = stage.submit(stage.pool.session(), OP)
    for node in stage.nodes:
        node.accept().say(Rejected("cluster", f"node {node.node} is of cluster x"))
    assert (request.outcome, request.reason) == ("refused", "rejected")
    assert "node 3 is of cluster x" in request.text
    assert stage.clock.seconds() == 0


# Looking for the leader.


def test_nodes_that_redirect_in_circles_are_asked_with_growing_pauses(stage: Stage) -> None:
    stage.submit(stage.pool.session(), OP)
    rounds: list[float] = []
    asked = 0
    while stage.clock.seconds() < 3:
        before = sum(stage.pool.reconnects.values())
        redirected_forever(stage)
        redirected_forever(stage)
        redirected_forever(stage)
        now = sum(stage.pool.reconnects.values())
        if now > before:
            rounds.append(stage.clock.seconds())
            asked = max(asked, now - before)
        stage.clock.advance(0.001)
    pauses = [later - earlier for earlier, later in pairwise(rounds)]
    assert asked <= 3, "each node at most once in a round"
    assert pauses[0] <= 0.011
    assert all(pause <= 0.201 for pause in pauses)
    assert all(pause >= 0.099 for pause in pauses[-5:])
    assert [node.dialled for node in stage.nodes] == [1, 1, 1], "connections to nodes that redirect are kept"


def test_redirects_to_ever_new_addresses_end_the_round(stage: Stage) -> None:
    asked: list[Node] = []

    def endpoint(address: Any) -> Any:
        node = Node(stage, len(asked))
        node.address = address
        asked.append(node)
        return node

    stage.pool._endpoint = endpoint
    stage.submit(stage.pool.session(), OP)
    while asked[-1].is_dialled:
        asked[-1].welcome(asked[-1].redirection(Node(stage, len(asked))))
    assert len(asked) == HOPS_MAX


def test_a_redirect_to_no_address_is_like_no_leader(stage: Stage) -> None:
    first = stage.nodes[0]
    stage.submit(stage.pool.session(), OP)
    (command,) = first.welcome().hears_requests()
    first.say(
        first.redirection(stage.nodes[1], command.client, command.seq).__class__(
            command.client, command.seq, first.node, "nowhere"
        )
    )
    assert stage.dialled == [stage.nodes[1]]
    assert "nowhere" in stage.pool.moves[-1].text


def test_retry_after_is_honoured(stage: Stage) -> None:
    stage.submit(stage.pool.session(), OP)
    first, second, third = stage.nodes
    first.welcome(NoLeader(ClientId(0), 0, 300, "an election runs"))
    second.welcome(NoLeader(ClientId(0), 0, 200, "an election runs"))
    third.welcome(NoLeader(ClientId(0), 0, 100, "an election runs"))
    stage.run(0.099)
    assert third.hears_requests() == []
    stage.run(0.003)
    (command,) = third.hears_requests()
    third.no_leader(command, 1000)
    stage.run(0.09)
    assert second.hears_requests() == []
    stage.run(0.02)
    assert second.hears_requests() == [command]
    assert first.hears_requests() == []


def test_after_a_crash_the_other_nodes_are_asked_at_once_and_the_new_leader_found_in_time(stage: Stage) -> None:
    """The leader dies; the others redirect to it for 60 ms, then elect the third."""
    first, second, third = stage.nodes
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    request = stage.submit(session, OP)
    first.reset()
    assert stage.dialled == [second], "at the same moment"
    asked_before_election = 0
    while request.outcome is None:
        elected = stage.clock.seconds() >= 0.060
        for node in stage.nodes:
            if node is first:
                if node.is_dialled:
                    node.refuse()
                continue
            words = [] if elected and node is third else [node.redirection(third if elected else first)]
            if node.is_dialled:
                node.welcome(*words)
            if node.is_connected:
                for command in node.hears_requests():
                    if elected and node is third:
                        node.answer(command)
                    else:
                        asked_before_election += 1
                        node.say(node.redirection(third if elected else first, command.client, command.seq))
        stage.clock.advance(0.0005)
    assert stage.clock.seconds() < 0.100
    assert asked_before_election < 20
    assert second.dialled == third.dialled == 1
    steps = stage.pool.steps_since(request.started_ns)
    assert [step.what for step in steps[:5]] == ["dial", "welcome", "left", "dial", "welcome"]
    assert {step.what for step in steps} == {"left", "dial", "welcome", "use", "pause", "resume"}
    assert steps[-1].time_ns <= request.sent_ns, "the last step reached the leader"
    assert stage.pool.steps_since(request.finished_ns + 1) == ()


def test_a_redirect_to_a_node_that_was_just_silent_is_followed_only_after_a_while(stage: Stage) -> None:
    first, second, third = stage.nodes
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    stage.submit(session, OP)
    stage.run(1.001)
    second.welcome(second.redirection(first))
    assert stage.dialled == [third]
    third.refuse()
    assert stage.dialled == [first], "as the last one of its round, not because it was named"
    first.refuse()
    stage.run(0.020)
    (command,) = second.hears_requests()
    stage.run(0.985)  # almost too long for the second node
    second.redirect(command, first)
    assert stage.dialled == [first], "it may be well again"


def test_a_leader_that_steps_down_is_not_asked_again_in_the_same_round(stage: Stage) -> None:
    first, second, third = stage.nodes
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    stage.submit(session, OP)
    first.no_leader(*first.hears_requests())
    second.refuse()
    third.refuse()
    assert first.hears_requests() == []
    stage.run(0.011)
    assert len(first.hears_requests()) == 1


def test_after_an_answer_the_next_trouble_begins_with_a_short_pause(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    stage.submit(session, OP)
    while stage.clock.seconds() < 3:
        never_reached(stage)
        stage.clock.advance(0.001)
    while not first.is_dialled:
        never_reached_but(stage, first)
        stage.clock.advance(0.001)
    first.welcome()
    first.answer(*first.hears_requests())
    stage.submit(session, OP)
    first.no_leader(*first.hears_requests())
    for node in stage.nodes:
        if node.is_dialled:
            node.refuse()
    never_reached(stage)
    assert first.hears_requests() == []
    stage.run(0.011)
    assert len(first.hears_requests()) == 1


def test_a_connection_with_requests_under_way_is_kept_until_they_are_answered(stage: Stage) -> None:
    first, second, _ = stage.nodes
    session = stage.pool.session()
    requests = [stage.submit(session, OP) for _ in range(2)]
    one, two = first.welcome().hears_requests()
    first.redirect(one, second)
    second.welcome().answer(one)
    assert first.is_connected
    first.answer(two)
    assert [request.outcome for request in requests] == ["ok", "ok"]
    assert not any(request.in_doubt for request in requests)


def test_the_leader_is_remembered_and_used_for_the_next_request(stage: Stage) -> None:
    first, second, _ = stage.nodes
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome(first.redirection(second))
    second.welcome()
    second.answer(*second.hears_requests())
    assert not first.is_connected, "the connection to the follower was given up"
    stage.submit(session, OP)
    (command,) = second.hears_requests()
    assert (command.seq, command.ack) == (2, 2)
    second.answer(command)
    assert reconnects(stage) == {REDIRECT: 1}


def test_an_idle_client_notices_a_lost_connection_and_dials_only_when_needed(stage: Stage) -> None:
    first, second, _ = stage.nodes
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    first.close()
    stage.run(1)
    assert stage.dialled == []
    stage.submit(session, OP)
    assert stage.dialled == [second]


def test_an_idle_connection_is_not_left_for_its_silence(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    stage.run(20, 0.1)
    assert first.is_connected
    assert reconnects(stage) == {}


def test_an_answer_that_waits_in_the_socket_while_we_were_stopped_counts(stage: Stage) -> None:
    """Timers run before sockets are read: after a stop the silence must be confirmed in the next turn."""
    first = stage.nodes[0]
    request = stage.submit(stage.pool.session(), OP)
    (command,) = first.welcome().hears_requests()
    stage.clock.callLater(1.0, first.wire.protocol.dataReceived, frame_of(Answer(command.client, 1, BankResult(17, 7))))
    stage.clock.advance(1.0)
    assert request.outcome == "ok"
    assert reconnects(stage) == {}


def test_a_stall_of_ours_is_not_counted_against_a_node_that_we_dial(stage: Stage) -> None:
    first = stage.nodes[0]
    stage.submit(stage.pool.session(), OP)
    first.accept()
    stage.clock.advance(8.0)
    stage.run(0.370)
    assert first.is_connected, "the stall was one slice of four"
    stage.run(0.010)
    assert reconnects(stage) == {TIMEOUT_DIAL: 1}


def test_a_stall_of_ours_is_not_counted_against_a_node_that_owes_an_answer(stage: Stage) -> None:
    first = stage.nodes[0]
    stage.submit(stage.pool.session(), OP)
    first.welcome()
    stage.clock.advance(2.5)
    stage.run(0.245)
    assert first.is_connected, "it has a slice of time to answer"
    stage.run(0.010)
    assert reconnects(stage) == {TIMEOUT_READ: 1}


def test_connect_looks_for_the_leader_without_a_request(stage: Stage) -> None:
    first, second, _ = stage.nodes
    done: list[None] = []
    stage.pool.connect().addCallback(done.append)
    first.welcome(first.redirection(second))
    assert done == []
    second.welcome()
    assert done == [None]
    assert stage.pool.leader == "node 2 at 10.0.0.1:7102"


# Replies.


def test_duplicate_and_foreign_replies_are_ignored(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    ended: list[Request] = []
    session.submit(OP, ended.append)
    stage.clock.advance(0)
    (command,) = first.welcome().hears_requests()
    client = command.client
    first.say(
        Answer(ClientId(client - 1), 1, BankResult(17, 1)),  # another client
        Answer(client, 9, BankResult(17, 2)),  # never asked
        Refused(ClientId(client - 1), 1, "invalid", "no"),
        NoLeader(client, 9, 10, "no"),
    )
    assert ended == []
    first.answer(command, 3).answer(command, 4)
    first.say(Refused(client, 1, "invalid", "no"))
    assert [request.result.balance for request in ended] == [3]
    assert reconnects(stage) == {}
    assert first.is_connected


def test_a_late_reply_about_a_copy_that_was_given_up_does_not_harm_the_new_copy(stage: Stage) -> None:
    """1. The node keeps quiet about a request, though it talks. 2. The request is repeated. 3. It redirects the old
    copy and answers the new one."""
    first = stage.nodes[0]
    session = stage.pool.session()
    request = stage.submit(session, OP)
    other = stage.submit(session, OP)
    (command, chatter) = first.welcome().hears_requests()
    first.answer(chatter)
    for _ in range(40):
        noise = stage.submit(session, OP)
        first.answer(*[said for said in first.hears_requests() if said.seq == noise.seq])
        stage.clock.advance(0.1)
    assert other.outcome == "ok"
    assert request.attempts == 2
    assert request.in_doubt
    first.answer(command)
    assert request.outcome == "ok"
    assert reconnects(stage) == {}


def test_a_late_redirect_of_a_copy_that_was_given_up_is_ignored(stage: Stage) -> None:
    """1. The node keeps quiet about a request, which is repeated. 2. It redirects one copy, which goes to another node.
    3. It redirects the other copy: the copy at the other node is still under way."""
    first, second, _ = stage.nodes
    session = stage.pool.session()
    request = stage.submit(session, OP)
    (command,) = first.welcome().hears_requests()
    while request.attempts < 2:
        noise = stage.submit(session, OP)
        first.answer(*[said for said in first.hears_requests() if said.seq == noise.seq])
        stage.clock.advance(0.1)
    first.redirect(command, second)
    assert second.welcome().hears_requests() == [command]
    first.redirect(command, second)
    assert second.hears_requests() == []
    assert session.strays == 1
    stage.run(1.001)
    assert not second.is_connected, "it still owes an answer: its silence counts"


def test_an_answer_to_a_request_that_was_never_sent_is_ignored(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    requests = [stage.submit(session, OP) for _ in range(2)]
    (command,) = first.welcome(window=1).hears_requests()
    first.say(Answer(command.client, 2, BankResult(17, 1)))
    assert [request.outcome for request in requests] == [None, None]
    assert session.strays == 1


# Many requests, many sessions.


def test_what_is_submitted_in_one_turn_leaves_in_one_write(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    for _ in range(100):
        session.submit(OP, lambda request: None)
    stage.clock.advance(0)
    assert first.wire is not None
    assert len(first.wire.writes) == 1
    assert [command.seq for command in first.hears_requests()] == list(range(2, 102))


def test_what_callbacks_submit_while_answers_are_read_leaves_in_one_write(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    again: Any = lambda request: session.submit(OP, lambda request: None)  # noqa: E731
    for _ in range(3):
        session.submit(OP, again)
    first.welcome()
    heard = first.hears_requests()
    timers = len(stage.clock.getDelayedCalls())
    assert first.wire is not None
    first.wire.protocol.dataReceived(
        b"".join(frame_of(Answer(said.client, said.seq, BankResult(17, 1))) for said in heard)
    )
    assert len(first.wire.writes) == 1, "at once"
    assert len(stage.clock.getDelayedCalls()) <= timers + 1, "with no timer but the one that watches for silence"
    assert [(said.seq, said.ack) for said in first.hears_requests()] == [(4, 2), (5, 3), (6, 4)]


def test_ack_is_the_lowest_request_that_has_not_ended(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    for _ in range(4):
        stage.submit(session, OP)
    one, two, three, four = first.welcome().hears_requests()
    acks = []
    for command in (three, two, one, four):
        first.answer(command)
        stage.submit(session, OP)
        acks.append(first.hears_requests()[0].ack)
    assert acks == [1, 1, 4, 5]


def test_no_more_requests_are_sent_than_the_window_of_the_welcome_allows(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    requests = [stage.submit(session, OP) for _ in range(10)]
    sent = first.welcome(window=4).hears_requests()
    assert [command.seq for command in sent] == [1, 2, 3, 4]
    first.answer(sent[1])
    assert first.hears_requests() == [], "the oldest is unanswered: the window has not moved"
    first.answer(sent[0])
    assert [command.seq for command in first.hears_requests()] == [5, 6]
    assert sum(request.outcome == "ok" for request in requests) == 2


def test_submit_raises_beyond_the_limit(stage: Stage) -> None:
    session = stage.pool.session()
    for _ in range(OUTSTANDING_MAX):
        assert not session.is_full
        session.submit(OP, lambda request: None)
    assert session.is_full
    assert OUTSTANDING_MAX <= SESSION_WINDOW
    with pytest.raises(WindowFullError):
        session.submit(OP, lambda request: None)


def test_sessions_share_one_connection_and_get_their_own_answers(stage: Stage) -> None:
    first = stage.nodes[0]
    sessions = [stage.pool.session() for _ in range(5)]
    requests = [stage.submit(session, OP) for session in sessions]
    sent = first.welcome().hears_requests()
    assert first.dialled == 1
    assert [command.client for command in sent] == [session.client for session in sessions]
    for balance, command in reversed(list(enumerate(sent))):
        first.answer(command, balance)
    assert [request.result.balance for request in requests] == list(range(5))


def test_only_the_requests_that_a_node_sent_elsewhere_are_repeated_there(stage: Stage) -> None:
    first, second, _ = stage.nodes
    session = stage.pool.session()
    requests = [stage.submit(session, OP) for _ in range(3)]
    one, two, three = first.welcome().hears_requests()
    first.redirect(one, second)
    assert second.welcome().hears_requests() == [one]
    first.answer(two)
    first.redirect(three, second)
    assert second.hears_requests() == [three]
    second.answer(one).answer(three)
    assert [request.outcome for request in requests] == ["ok"] * 3
    assert not any(request.in_doubt for request in requests)
    assert reconnects(stage) == {REDIRECT: 1}


def test_while_a_node_takes_no_bytes_requests_are_kept(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    stage.submit(session, OP)
    first.welcome()
    first.answer(*first.hears_requests())
    assert first.wire is not None
    first.wire.protocol.pauseProducing()
    stage.submit(session, OP)
    assert first.hears_requests() == []
    first.wire.protocol.resumeProducing()
    assert [command.seq for command in first.hears_requests()] == [2]


def test_a_callback_that_fails_disturbs_nobody(stage: Stage) -> None:
    first = stage.nodes[0]
    session = stage.pool.session()
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        session.submit(OP, lambda request: 1 / 0)
        after = stage.submit(session, OP)
        for command in first.welcome().hears_requests():
            first.answer(command)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert after.outcome == "ok"
    assert any("log_failure" in event for event in logged)
    assert first.is_connected


def test_closing_ends_every_request() -> None:
    stage = Stage()
    session = stage.pool.session()
    sent = stage.submit(session, OP)
    stage.nodes[0].welcome()
    kept = stage.submit(session, OP)
    stage.nodes[0].hears()
    never = stage.pool.session()
    stage.end()
    assert (sent.outcome, sent.reason) == ("unknown", "closed")
    assert (kept.outcome, kept.reason) == ("unknown", "closed")
    assert never.outstanding == 0


@pytest.mark.parametrize("accepted", [False, True])
def test_closing_while_dialling_leaves_nothing_behind(accepted: bool) -> None:
    stage = Stage()
    request = stage.submit(stage.pool.session(), OP)
    if accepted:
        stage.nodes[0].accept()
    stage.end()
    assert (request.outcome, request.reason) == ("refused", "closed")


def test_a_series_waits_for_the_older_requests_of_its_session_and_the_next_one_for_it() -> None:
    stage = Stage()
    node = stage.nodes[0]
    session = stage.pool.session()
    single = stage.submit(session, OP)
    first, second = stage.submit(session, (OP, OP)), stage.submit(session, (OP,))
    node.welcome()
    (command,) = node.hears_requests()
    assert command.seq == single.seq
    node.answer(command)
    (series,) = (message for message in node.hears() if isinstance(message, Series))
    assert (series.seq, series.ack, len(series.ops)) == (first.seq, first.seq, 2)
    node.say(Answers(series.client, series.seq, (BankResult(17, 1), BankResult(17, 2))))
    assert [result.balance for result in first.result] == [1, 2]
    (series,) = (message for message in node.hears() if isinstance(message, Series))
    assert (series.seq, series.ack) == (second.seq, second.seq)


def frame_of(message: Any) -> bytes:
    return frame(msgspec.msgpack.encode(message))
