"""The bench sends exactly what it was asked for, measures it, and runs commands at exact counts."""

import io
import json
import subprocess
from typing import Any

import pytest
from client_stage import Node, Stage
from paxos_twisted_client.bench import Bench, BenchPlan, Mark
from paxos_twisted_client.history import HistoryWriter
from paxos_twisted_client.limits import OUTSTANDING_MAX
from paxos_twisted_client.report import bench_exit_code, bench_json, print_json, print_tables
from rich.console import Console

from paxos_twisted.apps.bank import BankResult
from paxos_twisted.core.command import Command
from paxos_twisted.wire.client import Answer, Refused


class Played:
    """A bench on a stage. Each node answers each request after `delay_s` of virtual time."""

    def __init__(self, plan: BenchPlan, delay_s: float = 0.002, **more: Any) -> None:
        self.stage = Stage()
        self.ran: list[tuple[int, str]] = []
        self.delay_s = delay_s
        self.heard: list[Command[Any]] = []
        self.bench = Bench(self.stage.clock, [self.stage.pool], plan, run=self._run, **more)
        self.most = 0
        self._done: list[None] = []
        self.bench.finished.addCallback(self._done.append)

    def _run(self, command: str) -> Any:
        self.ran.append((self.bench.answered, command))
        return subprocess.Popen(["true"])

    def play(self, seconds: float = 60.0) -> "Played":
        self.bench.start()
        self.stage.clock.advance(0)
        while not self._done and self.stage.clock.seconds() < seconds:
            for node in self.stage.nodes:
                if node.is_dialled:
                    node.welcome()
                for command in node.hears_requests() if node.is_connected else ():
                    self.heard.append(command)
                    self.stage.clock.callLater(self.delay_s, self.reply, node, command)
            self.most = max(self.most, sum(client.session.outstanding for client in self.bench.clients))
            self.stage.clock.advance(0.001)
        for mark in self.bench.marks:
            if mark.process is not None:
                mark.process.wait()
        return self

    def reply(self, node: Node, command: Command[Any]) -> None:
        error = "not enough funds" if command.seq % 5 == 0 else None
        node.say(Answer(command.client, command.seq, BankResult(command.op.account, 0, error)))


def test_each_client_sends_its_number_of_requests_one_at_a_time() -> None:
    played = Played(BenchPlan(requests=20, clients=3)).play()
    seqs = [
        [said.seq for said in played.heard if said.client == client.session.client] for client in played.bench.clients
    ]
    assert seqs == [list(range(1, 21))] * 3
    assert played.most == 3
    assert bench_exit_code(played.bench) == 0
    report = bench_json(played.bench)
    assert report["together"]["answered"] == 60
    assert report["together"]["rejected_by_bank"] == 12
    assert report["clients"][0]["rtt_ms"]["median"] == 2.0
    assert report["clients"][0]["rtt_ms"]["count"] == 20
    played.stage.end()


def test_each_client_has_that_many_requests_under_way() -> None:
    played = Played(BenchPlan(requests=30, clients=2, outstanding=8)).play()
    assert played.most == 16
    assert len(played.heard) == 60
    played.stage.end()


class LastFirst(Played):
    """The first request of all is answered last."""

    def reply(self, node: Node, command: Command[Any]) -> None:
        if command.seq == 1 and self.bench.ended < OUTSTANDING_MAX - 1:
            self.stage.clock.callLater(0.01, self.reply, node, command)
        else:
            super().reply(node, command)


def test_an_old_request_that_holds_the_window_up_delays_the_bench_but_does_not_stop_it() -> None:
    played = LastFirst(BenchPlan(requests=OUTSTANDING_MAX + 50, outstanding=100)).play()
    assert played.bench.answered == OUTSTANDING_MAX + 50
    assert bench_exit_code(played.bench) == 0
    played.stage.end()


def test_the_same_seed_sends_the_same_transactions() -> None:
    runs = [Played(BenchPlan(requests=10, clients=2, seed=seed)).play() for seed in (4, 4, 5)]
    first, same, other = [[said.op for said in played.heard] for played in runs]
    assert first == same != other
    for played in runs:
        played.stage.end()


def test_open_loop_sends_on_time_although_answers_are_late_and_counts_the_waiting() -> None:
    played = Played(BenchPlan(requests=50, clients=2, rate=1000), delay_s=0.05).play()
    assert played.most > 40
    assert 0.148 < played.bench.seconds < 0.153
    report = bench_json(played.bench)
    assert report["together"]["rtt_ms"]["min"] >= 50
    assert report["together"]["rtt_ms"]["max"] < 53
    played.stage.end()


def test_open_loop_measures_from_the_time_at_which_a_request_was_due() -> None:
    """The program sleeps for half a second: what was due meanwhile has waited, and this shows."""
    played = Played(BenchPlan(requests=10, rate=100))
    played.bench.start()
    node = played.stage.nodes[0]
    node.welcome()
    played.stage.clock.rightNow += 0.5
    for command in node.hears_requests():
        played.reply(node, command)
    rtts = sorted(played.bench.clients[0].rtts_ns)
    assert rtts == pytest.approx([int((0.5 - due / 100) * 1e9) for due in reversed(range(10))])
    played.stage.end()


def test_commands_run_when_exactly_that_many_requests_are_answered() -> None:
    marks = [Mark(25, "second"), Mark(0, "first"), Mark(40, "fourth"), Mark(25, "third"), Mark(1000, "never")]
    played = Played(BenchPlan(requests=20, clients=2, outstanding=7), marks=marks).play()
    assert played.ran == [(0, "first"), (25, "second"), (25, "third"), (40, "fourth")]
    told = bench_json(played.bench)["marks"]
    assert [(mark["at"], mark["command"], mark["exit_code"]) for mark in told] == [
        (0, "first", 0),
        (25, "second", 0),
        (25, "third", 0),
        (40, "fourth", 0),
        (1000, "never", None),
    ]
    assert told[-1]["time_ns"] is None
    played.stage.end()


def test_the_history_has_an_invocation_and_an_end_for_each_request_in_order_of_time() -> None:
    file = io.BytesIO()
    history = HistoryWriter(file)
    played = Played(BenchPlan(requests=15, clients=2, outstanding=3), history=history).play()
    history.flush()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    invoked = [(line["client"], line["seq"]) for line in lines if line["type"] == "invoke"]
    ended = [(line["client"], line["seq"]) for line in lines if line["type"] == "ok"]
    assert len(invoked) == len(lines) / 2 == 30
    assert sorted(invoked) == sorted(ended)
    assert {line["process"] for line in lines} == {0, 1}
    played.stage.end()


class Refusing(Played):
    def reply(self, node: Node, command: Command[Any]) -> None:
        if command.seq == 3:
            node.say(Refused(command.client, command.seq, "invalid", "no"))
        else:
            super().reply(node, command)


class Silent(Played):
    def reply(self, node: Node, command: Command[Any]) -> None:
        if command.seq != 3:
            super().reply(node, command)


@pytest.mark.parametrize(
    ("kind", "code", "outcome"),
    [
        pytest.param(Played, 0, "answered", id="all answered: 0"),
        pytest.param(Refusing, 1, "refused", id="one refused by the cluster: 1"),
        pytest.param(Silent, 4, "unknown", id="one unknown: 4"),
    ],
)
def test_exit_code(kind: type[Played], code: int, outcome: str) -> None:
    played = kind(BenchPlan(requests=5)).play()
    assert bench_exit_code(played.bench) == code
    together = bench_json(played.bench)["together"]
    assert together["answered"] == 5 - (outcome != "answered")
    assert together[outcome] >= 1
    played.stage.end()


class Expiring(Played):
    def reply(self, node: Node, command: Command[Any]) -> None:
        if command.client == self.heard[0].client:
            node.say(Refused(command.client, command.seq, "expired", "who are you?"))
        else:
            super().reply(node, command)


def test_an_expired_session_is_replaced_and_the_bench_goes_on() -> None:
    played = Expiring(BenchPlan(requests=9, outstanding=3))
    played.bench.start()
    node = played.stage.nodes[0]
    for _ in range(200):
        played.stage.clock.advance(0.001)
        if node.is_dialled:
            node.welcome(applied=10)
        if node.is_connected:
            for command in node.hears_requests():
                played.heard.append(command)
                played.reply(node, command)
    client = played.bench.clients[0]
    assert played.bench.ended == 9
    assert (client.answered, client.refused + client.unknown) == (6, 3)
    assert len({said.client for said in played.heard}) == 2
    played.stage.end()


def test_stopped_early_it_reports_what_it_has() -> None:
    played = Played(BenchPlan(requests=1000))
    played.stage.clock.callLater(0.1, played.bench.stop)
    played.play()
    report = bench_json(played.bench)
    assert 0 < report["together"]["answered"] < 100
    assert report["exit_code"] == 4
    played.stage.end()


def test_the_gap_names_its_share_of_timeouts() -> None:
    played = Played(BenchPlan(requests=3))
    played.bench.start()
    first, second, _ = played.stage.nodes
    first.welcome()
    played.reply(first, *first.hears_requests())
    played.stage.run(1.1)
    second.welcome()
    for _ in range(2):
        (command,) = second.hears_requests()
        played.reply(second, command)
    gap = bench_json(played.bench)["together"]["longest_gap"]
    assert gap["ms"] == pytest.approx(1100, abs=1)
    assert gap["timeout_share"] == pytest.approx(1 / 1.1, abs=0.01)
    assert bench_json(played.bench)["reconnects"]["timeout_read"] == 1
    played.stage.end()


def test_tables_fit_80_columns_and_json_is_json() -> None:
    played = Played(BenchPlan(requests=40, clients=3)).play()
    out = Console(file=io.StringIO(), width=80)
    print_tables(played.bench, out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    first, header = text.splitlines()[0], text.splitlines()[2]
    assert first.startswith("3 clients x 40 transactions")
    assert header.split() == ["client", "answered", "mean", "min", "max", "median", "std", "dev", "p99", "max", "gap"]
    assert "sample (n-1)" in text
    raw = Console(file=io.StringIO())
    print_json(played.bench, raw)
    assert json.loads(raw.file.getvalue())["together"]["answered"] == 120  # type: ignore[attr-defined]
    played.stage.end()
