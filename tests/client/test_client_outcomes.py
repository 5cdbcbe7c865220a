"""Whatever the nodes and the network do: each request ends once, and its outcome is true.

The nodes here are honest (a reply says what happened to that copy) but as unlucky as the random choices make them: they
apply and do not answer, apply later, lose connections, are deposed, redirect in circles, and repeat answers.
"""

from random import Random
from typing import Any

from client_stage import Node, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from paxos_twisted_client.session import Request

from paxos_twisted.apps.bank import Bank, BankOp
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState, is_refusal
from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import Answer, NoLeader, Redirect, Refused, Unknown

REQUESTS = 12


class Unlucky:
    """A cluster with one log, in which copies of commands wait for their time."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.stage = Stage()
        self.state = ReplicatedState(Bank(), 1_000_000)
        self.times_applied: dict[tuple[int, int], int] = {}
        self.inbox: list[tuple[Node, Any, Command[Any]]] = []  # node, wire, request that waits for a decision
        self.pending: list[tuple[Node, Any, Command[Any]]] = []  # proposed, and decided later or never
        self.answers: list[tuple[Node, Any, Answer[Any]]] = []
        self.sessions = [self.stage.pool.session() for _ in range(2)]
        self.requests: list[Request] = []
        self.ends: list[Request] = []

    def submit(self) -> None:
        if len(self.requests) < REQUESTS:
            op = BankOp(self.rng.randrange(4), self.rng.randrange(3), self.rng.randrange(50), self.rng.randrange(3))
            self.requests.append(self.rng.choice(self.sessions).submit(op, self.ends.append))

    def apply(self, command: Command[Any]) -> Any:
        before = self.state.commands_applied
        (result,) = self.state.apply(self.state.applied + 1, [command])
        key = (command.client, command.seq)
        self.times_applied[key] = self.times_applied.get(key, 0) + self.state.commands_applied - before
        return result

    def answer(self, node: Node, wire: Any, command: Command[Any]) -> None:
        """Apply, and answer if that connection is still there."""
        result = self.apply(command)
        if node.wire is not wire:
            return
        if is_refusal(result):
            node.say(Refused(command.client, command.seq, result.reason, result.text))
        else:
            answer: Answer[Any] = Answer(command.client, command.seq, result)
            self.answers.append((node, wire, answer))
            node.say(answer)

    def step(self) -> None:
        rng = self.rng
        node = rng.choice(self.stage.nodes)
        match rng.randrange(12):
            case 0 | 1:
                self.submit()
            case 2:
                self.stage.clock.advance(rng.choice([0.001, 0.01, 0.1, 1.1]))
            case 3 | 4 | 5 if node.is_dialled:
                self.meet(node)
            case 6 if node.is_connected:
                rng.choice([node.close, node.reset])()
            case 7 if self.pending:
                self.answer(*self.pending.pop(rng.randrange(len(self.pending))))
            case 8 if self.answers:
                said_by, wire, answer = rng.choice(self.answers)
                if said_by.wire is wire:
                    said_by.say(answer)
            case _:
                self.listen()
                if self.inbox:
                    self.decide(*self.inbox.pop(0))

    def meet(self, node: Node) -> None:
        client = ClientId(0)
        match self.rng.randrange(6):
            case 0:
                node.refuse()
            case 1:
                node.accept()
            case 2:
                node.welcome(node.redirection(self.rng.choice(self.stage.nodes)), applied=self.state.applied)
            case 3:
                node.welcome(NoLeader(client, 0, self.rng.choice([0, 20]), ""), applied=self.state.applied)
            case _:
                node.welcome(applied=self.state.applied)

    def listen(self) -> None:
        for node in self.stage.nodes:
            if node.is_connected:
                self.inbox += [(node, node.wire, command) for command in node.hears_requests()]

    def decide(self, node: Node, wire: Any, command: Command[Any]) -> None:
        client, seq = command.client, command.seq
        is_there = node.wire is wire
        match self.rng.randrange(10):
            case 0:  # never mentioned again
                return
            case 1:  # applied, but the answer is lost
                self.apply(command)
            case 2:
                self.pending.append((node, wire, command))
            case 3 if is_there:  # deposed behind the proposal
                self.pending.append((node, None, command))
                node.say(Unknown(client, seq, "deposed"))
            case 4 if is_there:
                to = self.rng.choice(self.stage.nodes)
                node.say(Redirect(client, seq, to.node, str(to.address)))
            case 5 if is_there:
                node.say(NoLeader(client, seq, self.rng.choice([0, 20]), "none"))
            case 6 if is_there:
                node.say(Refused(client, seq, self.rng.choice(["overloaded", "disk-full", "invalid"]), "no"))
            case _:
                self.answer(node, wire, command)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(20, 300))
def test_every_request_ends_once_and_truthfully(rng: Random, steps: int) -> None:
    world = Unlucky(rng)
    for _ in range(steps):
        world.step()
    for _ in range(1200):  # then nobody says anything any more
        if all(request.outcome for request in world.requests):
            break
        world.stage.clock.advance(0.01)
    assert sorted(world.ends, key=id) == sorted(world.requests, key=id)
    for node, wire, command in [*world.pending, *world.inbox]:  # the last copies are decided after all
        del node, wire
        world.apply(command)
    for request in world.requests:
        times = world.times_applied.get((request.client, request.seq), 0)
        assert times <= 1
        assert (request.outcome == "ok") <= (times == 1)
        assert (request.outcome == "refused") <= (times == 0)
    for session in world.sessions:
        assert session.outstanding == 0
    for connection in world.stage.pool._connections.values():
        assert connection.unanswered == 0
    world.stage.end()
