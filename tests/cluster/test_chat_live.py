"""The chat on real processes: the experiments of the text, the feed over a failover, the screen. [CH-22 … CH-34]"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from paxos_twisted.cluster.chat_run import Plan, run_chat
from paxos_twisted.cluster.client_runs import ClientRun
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.ports import free_ports
from paxos_twisted.types import NodeId

pytestmark = pytest.mark.integration

PLANS = [
    pytest.param(Plan(name="normal", clients=2, messages=6), id="1 normal operation"),
    pytest.param(Plan(name="kills", f=1, clients=2, messages=8, kills=1), id="2 the primary dies"),
    pytest.param(
        Plan(name="skips", clients=3, messages=6, kills=1, skip_slots=(4, 7, 8)), id="4 skipped slots become no-ops"
    ),
    pytest.param(Plan(name="loss", clients=2, messages=8, loss=0.1, timeout="300ms"), id="5 a tenth of all is lost"),
]


@pytest.mark.parametrize("plan", PLANS)
def test_experiments_of_the_text(plan: Plan, tmp_path: Path) -> None:
    outcome = run_chat(plan, tmp_path / "run")
    assert outcome.findings == []
    assert outcome.answered == outcome.asked == plan.clients * plan.messages
    assert len(outcome.primaries) == plan.kills + 1
    alive = [log for log in outcome.logs if log.is_alive]
    assert len({tuple(log.tail) for log in alive}) == 1, "the last lines of all replicas agree"  # [CH-28]
    for log in alive:
        assert set(plan.skip_slots) <= set(log.noops)
    assert all(log.pid for log in outcome.logs)  # [CH-34]


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3, 1), (3, 1, 2)], ids=str)
def test_servers_start_in_any_order(order: tuple[NodeId, ...], tmp_path: Path) -> None:  # [CH-10]
    cluster = LocalCluster.create(tmp_path / "chat", application="chat")
    with cluster:
        for node in order:
            cluster.start(node)
            time.sleep(0.2)
        with ClientRun("chatclient", ["post", "hall", "hello"], cluster.config_path, tmp_path / "out") as client:
            assert client.wait(40) == 0, client.errors.read_text()
        cluster.wait_ready()


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[LocalCluster]:
    """A chat whose leader listens at a service address, too."""
    cluster = LocalCluster.create(tmp_path / "chat", application="chat")
    (port,) = free_ports(1)
    for node in cluster.members:
        cluster.options[node] = ["--service", f"127.0.0.1:{port}"]
    (tmp_path / "service").write_text(f"127.0.0.1:{port}")
    with cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.leader()
        yield cluster


def test_a_listener_misses_nothing_when_the_leader_dies(chat: LocalCluster, tmp_path: Path) -> None:
    """The talker knows all nodes, the listener only the service address: whoever leads answers there. [AU-04, AV-20]"""
    talk = ["talk", "--output", "json", "--count", "20", "--every", "100ms", "--timeout", "30s"]
    listen = ["listen", "--from", "0", "--count", "20", "--output", "json", "--cluster", "local"]
    listen += ["--nodes", (tmp_path / "service").read_text()]
    with (
        ClientRun("chatclient", talk, chat.config_path, tmp_path / "talk") as talker,
        ClientRun("chatclient", listen, None, tmp_path / "hear") as hearer,
    ):
        assert hearer.wait_lines(5, 30)
        chat.kill(chat.leader())
        assert talker.wait(40) == 0, talker.errors.read_text()
        assert hearer.wait(20) == 0, hearer.errors.read_text()
        said = [(line["result"]["position"], line["id"]) for line in talker.lines()]
        heard = [(line["position"], line["id"]) for line in hearer.lines()]
    assert heard == said
    assert [position for position, _ in heard] == list(range(20))


def test_the_screen_shows_what_others_say_while_one_types(chat: LocalCluster) -> None:
    start = "from paxos_twisted_client.chatclient import main; main()"
    environment = dict(os.environ, TERM="xterm", XDG_STATE_HOME=str(chat.directory), NO_COLOR="1", PAXOS_NAME="ann")

    def screen(*options: str) -> pexpect.spawn:
        arguments = ["-c", start, "-c", str(chat.config_path), *options]
        return pexpect.spawn(
            sys.executable, arguments, env=environment, timeout=30, encoding="utf-8", dimensions=(30, 100)
        )

    ann, bob = screen("-manual"), screen("-uid", "bob")
    try:
        for one in (ann, bob):
            one.expect("Type, and press Enter")
            one.expect("nobody has said anything here yet")
        ann.sendline("is anybody here")
        bob.expect("ann: is anybody here")
        ann.expect(r"ann\S*: is anybody here")  # one's own name is bold
        chat.kill(chat.leader())
        bob.sendline("I am, and a node is not")
        ann.expect("bob: I am, and a node is not")
        ann.sendline("/who")
        ann.expect("lately here: ann, bob")
        ann.sendline("/join yard")
        ann.expect("yard")
        ann.sendline("/nonsense")
        ann.expect("there is no command /nonsense")
        for one in (ann, bob):
            one.sendline("/quit")
            one.expect(pexpect.EOF)
            one.close()
            assert one.exitstatus == 0
    finally:
        for one in (ann, bob):
            one.close(force=True)


def test_single_commands_print_what_was_said(chat: LocalCluster, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        with ClientRun("chatclient", arguments, chat.config_path, tmp_path / "out") as client:
            assert client.wait(30) == 0, client.errors.read_text()
            return client.output.read_text()

    assert run("--name", "ann", "post", "hall", "hello") == "message 0\n"
    assert run("history", "hall").endswith("ann: hello\n")
    assert run("rooms").startswith("hall\t1 messages")
    told = json.loads(run("--output", "json", "history", "hall"))
    assert told["result"]["messages"][0]["body"] == "hello"
