"""`bankclient` as a process against real sockets: every way in which a node can fail, and what the user gets to see."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from paxos_twisted_client.bench import Bench, BenchPlan
from paxos_twisted_client.endpoints import Address, parse_addresses, tcp_endpoint
from paxos_twisted_client.limits import OUTSTANDING_MAX
from paxos_twisted_client.options import Patience
from paxos_twisted_client.pool import Pool
from twisted.internet.selectreactor import SelectReactor

pytestmark = pytest.mark.integration

BANKCLIENT = [sys.executable, "-c", "from paxos_twisted_client.bankclient import main; main()"]
ONE_NODE = Path(__file__).with_name("one_node.py")
LIMIT_S = 60


@dataclass
class Live:
    """Three ports in front of one state, see one_node.py."""

    process: "subprocess.Popen[str]"
    ports: list[int]
    control: Path

    def address(self, number: int) -> str:
        return f"127.0.0.1:{self.ports[number - 1]}"

    def nodes(self, *numbers: int) -> str:
        return ",".join(self.address(number) for number in numbers or (1, 2, 3))

    def obey(self, *lines: str) -> None:
        """Set moods, and wait until they are set."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for line in lines:
            self.process.stdin.write(f"{line}\n")
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def totals(self) -> dict[str, int]:
        """Stop, and say how many requests came and how many commands were applied."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        totals: dict[str, int] = json.loads(self.process.stdout.readline())
        return totals


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    control = tmp_path / "control"
    with subprocess.Popen(
        [sys.executable, str(ONE_NODE), "--nodes", "3", "--control", str(control)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Live(process, json.loads(process.stdout.readline())["ports"], control)
        finally:
            process.kill()


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAXOS_", "XDG_"))}
    return kept | {"HOME": str(home), "NO_COLOR": "1", "COLUMNS": "80"} | more


def run(home: Path, *arguments: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*BANKCLIENT, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=home,
        env=environment(home, **more),
        check=False,
    )


# One transaction.


def test_single_transactions_and_their_exit_codes(live: Live, tmp_path: Path) -> None:
    for arguments, code, out, err in [
        (("deposit", "17", "100"), 0, "account 17: balance 100\n", ""),
        (("withdraw", "17", "30"), 0, "account 17: balance 70\n", ""),
        (("balance", "17"), 0, "account 17: balance 70\n", ""),
        (("transfer", "17", "18", "20"), 0, "account 17: balance 50, account 18: balance 20\n", ""),
        (
            ("withdraw", "17", "51"),
            1,
            "",
            "refused: not enough funds: account 17 holds 50, 51 was requested\n",
        ),
        (("deposit", "17", "-5"), 1, "", "refused: cannot deposit a negative amount (-5)\n"),
    ]:
        done = run(tmp_path, *arguments, PAXOS_NODES=live.nodes())
        assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_json_of_a_transaction(live: Live, tmp_path: Path) -> None:
    done = run(tmp_path, "transfer", "1", "2", "5", "--nodes", live.nodes(), "--output", "json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["outcome"] == "ok"
    assert told["op"] == {"kind": "transfer", "account": 1, "amount": 5, "to": 2}
    assert told["result"]["error"].startswith("not enough funds")
    assert told["node"] == f"node 1 at {live.address(1)}"
    assert (told["seq"], told["attempts"]) == (1, 1)


def test_nobody_is_there(live: Live, tmp_path: Path) -> None:
    live.obey("1 down", "2 down", "3 down")
    done = run(tmp_path, "balance", "17", "--timeout", "300ms", "--nodes", live.nodes())
    assert done.returncode == 4
    assert done.stdout == ""
    assert re.fullmatch(r"not done: no answer within 0\.3 s \(127\.0\.0\.1:\d+: .*refused.*\)\n", done.stderr)


def test_a_silent_cluster_leaves_the_outcome_unknown(live: Live, tmp_path: Path) -> None:
    live.obey("1 silent", "2 silent", "3 silent")
    done = run(tmp_path, "deposit", "17", "1", "--timeout", "300ms", "--nodes", live.nodes(), "--output", "json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["outcome"] == "unknown"


def test_the_wrong_cluster_is_told_at_once(live: Live, tmp_path: Path) -> None:
    started = time.monotonic()
    done = run(tmp_path, "balance", "17", "--cluster", "other", "--nodes", live.nodes())
    assert done.returncode == 1
    assert "this is cluster 'demo', not 'other'" in done.stderr
    assert time.monotonic() - started < 5


def test_cluster_file(live: Live, tmp_path: Path) -> None:
    nodes = "".join(f"  - {{id: {number}, address: {live.address(number)}}}\n" for number in (3, 2, 1))
    (tmp_path / "cluster.yml").write_text(f"cluster: demo\napplication: bank\nnodes:\n{nodes}")
    assert run(tmp_path, "deposit", "1", "7").stdout == "account 1: balance 7\n", "found in the current folder"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run(elsewhere, "balance", "1", "--config", "../cluster.yml").stdout == "account 1: balance 7\n"
    assert run(elsewhere, "balance", "1", PAXOS_CONFIG="../cluster.yml").stdout == "account 1: balance 7\n"


# The bench, and nodes that fail.


def bench(home: Path, *arguments: str, **more: str) -> tuple[int, dict[str, Any]]:
    done = run(home, "--bench", "--output", "json", "--seed", "1", *arguments, **more)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    return done.returncode, report


PATIENCE = ("--dial-timeout", "200ms", "--read-timeout", "200ms", "--write-timeout", "200ms")


@pytest.mark.parametrize(
    ("mood", "causes"),
    [
        pytest.param("follow", {"redirect"}, id="a follower redirects"),
        pytest.param("lost", {"no_leader"}, id="a node that knows no leader"),
        pytest.param("silent", {"timeout_read"}, id="a node that never answers"),
        pytest.param("mute", {"timeout_dial"}, id="a node that never welcomes"),
        pytest.param("down", {"error"}, id="a closed port"),
        pytest.param("resetting", {"error"}, id="RST instead of an answer"),
        pytest.param("babbling", {"error"}, id="bytes that are no frames"),
        pytest.param("rejecting", {"error"}, id="a node that rejects us"),
        pytest.param("forgetful", {"closed"}, id="applied, but closed instead of answered"),
    ],
)
def test_the_bench_goes_on_elsewhere(live: Live, tmp_path: Path, mood: str, causes: set[str]) -> None:
    live.obey("2 lead", f"1 {mood}")
    code, report = bench(tmp_path, "-n", "50", "--nodes", live.nodes(), *PATIENCE)
    assert code == 0
    assert report["together"]["answered"] == 50
    assert {cause for cause, count in report["reconnects"].items() if count} == causes
    assert sum(report["reconnects"].values()) == 1
    totals = live.totals()
    assert totals["commands"] == 50
    assert totals["requests"] == 50 + (mood == "forgetful")


class SmallBuffer:
    """An endpoint whose connections keep few bytes in the kernel: else it takes megabytes of requests to see that a
    node does not read."""

    def __init__(self, reactor: Any, address: Address) -> None:
        self.endpoint = tcp_endpoint(reactor, address)

    def connect(self, factory: Any) -> Any:
        def shrink(protocol: Any) -> Any:
            protocol.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return protocol

        return self.endpoint.connect(factory).addCallback(shrink)


def test_a_node_that_takes_no_bytes_is_left_after_the_write_timeout(live: Live) -> None:
    live.obey("2 lead", "1 deaf")
    reactor: Any = SelectReactor()
    deaf = parse_addresses(live.nodes(1))[0]
    pool = Pool(
        reactor,
        parse_addresses(live.nodes()),
        cluster="demo",
        application="bank",
        patience=Patience(write_s=0.5, read_s=20, request_s=LIMIT_S),
        endpoint=lambda address: (SmallBuffer if address == deaf else tcp_endpoint)(reactor, address),
    )
    plan = BenchPlan(requests=OUTSTANDING_MAX, outstanding=OUTSTANDING_MAX, clients=16)
    bench = Bench(reactor, [pool], plan)
    bench.finished.addCallback(lambda _: pool.close()).addCallback(lambda _: reactor.stop())
    reactor.callWhenRunning(bench.start)
    guard = reactor.callLater(LIMIT_S, reactor.stop)
    reactor.run(installSignalHandlers=False)
    assert guard.active(), "in time"
    assert bench.answered == bench.total
    assert {cause: count for cause, count in pool.reconnects.items() if count} == {"timeout_write": 1}
    assert live.totals()["commands"] == bench.total


def test_a_black_hole_is_left_after_the_dial_timeout(live: Live, tmp_path: Path) -> None:
    """A listening socket whose queue is full: the kernel drops further SYNs, as a machine that is gone does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hole:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)
        address = f"127.0.0.1:{hole.getsockname()[1]}"
        code, report = bench(tmp_path, "-n", "20", "--nodes", f"{address},{live.nodes(1)}", *PATIENCE)
        for filler in fillers:
            filler.close()
    assert code == 0
    assert report["reconnects"]["timeout_dial"] == 1
    assert report["moves"][0]["address"] == address
    assert report["moves"][0]["waited_s"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("clients", "outstanding", "share"),
    [
        pytest.param(1, 1, False, id="one synchronous client"),
        pytest.param(3, 1, False, id="three clients, a connection each"),
        pytest.param(3, 32, True, id="three clients with many requests on one connection"),
    ],
)
def test_the_leader_dies_at_command_k(live: Live, tmp_path: Path, clients: int, outstanding: int, share: bool) -> None:
    history = tmp_path / "history.jsonl"
    total = clients * 500
    code, report = bench(
        tmp_path, "-n", "500", "--clients", str(clients), "--outstanding", str(outstanding), *(["--share"] * share),
        "--nodes", live.nodes(), "--history", str(history),
        "--at", str(total // 2), "--run", f"printf '2 lead\\n1 down\\n' > {live.control}",
    )  # fmt: skip
    assert code == 0
    assert report["together"]["answered"] == total
    # Which of them it is depends on what arrives first: the redirect of one node or the end of the other.
    assert sum(report["reconnects"][cause] for cause in ("error", "closed", "redirect")) >= 1
    (mark,) = report["marks"]
    assert mark["exit_code"] == 0
    assert 0 < mark["seconds"] < report["seconds"]
    assert report["together"]["longest_gap"]["ms"] < 1000
    totals = live.totals()
    assert totals["commands"] == total, "no command twice, none lost"
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    answered = {(line["client"], line["seq"]): line for line in lines if line["type"] == "ok"}
    assert len(answered) == total
    assert len(lines) == 2 * total
    money = sum(
        {"deposit": 1, "withdraw": -1}.get(line["op"]["kind"], 0) * line["op"]["amount"]
        for line in answered.values()
        if line["result"]["error"] is None
    )
    assert totals["money"] == money


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_reports_what_it_has(live: Live, tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [*BANKCLIENT, "--bench", "-n", "10000000", "--nodes", live.nodes(), "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
    ) as process:
        live_long_enough(live, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert 0 < json.loads(out)["together"]["answered"] < 10_000_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_transaction_does_not_look_done(live: Live, tmp_path: Path, number: int) -> None:
    live.obey("1 silent")
    with subprocess.Popen(
        [*BANKCLIENT, "deposit", "17", "1", "--nodes", live.nodes(1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as process:
        live_long_enough(live, process, hellos=1)
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: what was under way may or may not have been done\n"


def live_long_enough(live: Live, process: "subprocess.Popen[str]", requests: int = 100, hellos: int = 0) -> None:
    """Wait until the client has been served."""
    assert live.process.stdin is not None
    assert live.process.stdout is not None
    while process.poll() is None:
        live.process.stdin.write("!\n")
        live.process.stdin.flush()
        totals = json.loads(live.process.stdout.readline())
        if totals["requests"] >= requests or (hellos and totals["hellos"] >= hellos):
            return


def test_tables_go_to_stdout_and_the_progress_to_stderr(live: Live, tmp_path: Path) -> None:
    done = run(
        tmp_path, "--bench", "-n", "100", "--clients", "2", "--progress", "--seed", "1", PAXOS_NODES=live.nodes()
    )
    assert done.returncode == 0
    assert done.stdout.startswith("2 clients x 100 transactions, 1 at a time, seed 1")
    assert "together" in done.stdout
    assert "reconnects" in done.stdout
    assert "200/200" in done.stderr
    assert "\x1b" not in done.stdout


def test_open_loop(live: Live, tmp_path: Path) -> None:
    code, report = bench(tmp_path, "-n", "100", "--clients", "2", "--rate", "1000", "--nodes", live.nodes())
    assert code == 0
    assert 0.19 < report["seconds"] < 2
    assert report["methods"]["rtt"] == "from the time at which a request was due"


# The manual mode.


def test_lines_from_a_pipe(live: Live, tmp_path: Path) -> None:
    lines = "# pay in\ndeposit 17 100\n\nwithdraw\n17\n30\nb 17\n17\nbalance\n"
    done = run(tmp_path, stdin=lines, PAXOS_NODES=live.nodes())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "account 17: balance 100",
        "account 17: balance 70",
        "account 17: balance 70",
        "account 17: balance 70",
    ]


def test_lines_from_a_pipe_that_go_wrong(live: Live, tmp_path: Path) -> None:
    done = run(
        tmp_path, stdin="deposit 17 100\nwithdraw 17 101\nfrobnicate\nquit\ndeposit 1 1\n", PAXOS_NODES=live.nodes()
    )
    assert done.returncode == 1
    assert done.stdout == "account 17: balance 100\n"
    assert done.stderr.splitlines() == [
        "refused: not enough funds: account 17 holds 100, 101 was requested",
        "unknown command 'frobnicate'; there are balance, deposit, withdraw, transfer, status, help, quit",
    ]


def test_a_file_of_lines_and_json(live: Live, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("deposit 1 5\nbalance 1\n")
    with lines.open() as stdin:
        done = subprocess.run(
            [*BANKCLIENT, "--nodes", live.nodes(), "--output", "json"],
            stdin=stdin, capture_output=True, text=True, timeout=LIMIT_S, env=environment(tmp_path), check=False,
        )  # fmt: skip
    assert [json.loads(line)["result"]["balance"] for line in done.stdout.splitlines()] == [5, 5]


@pytest.fixture
def talk(live: Live, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    talks: list[Any] = []

    def start(*numbers: int) -> Any:
        child = pexpect.spawn(
            BANKCLIENT[0], [*BANKCLIENT[1:], "--nodes", live.nodes(*numbers)],
            env=environment(tmp_path, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1"), encoding="utf-8", timeout=10,
            dimensions=(24, 100),
        )  # fmt: skip
        talks.append(child)
        child.expect("bank>")
        return child

    yield start
    for child in talks:
        child.close(force=True)


def test_a_conversation(talk: Callable[..., Any], tmp_path: Path) -> None:
    child = talk()
    child.send("deposit 17 100\r")
    child.expect("account 17: balance 100")
    child.expect("bank>")
    child.send("\r")  # just Enter: the lab's three questions
    child.expect("account:")
    child.send("17\r")
    child.expect("transaction .*:")
    child.send("withdraw\r")
    child.expect("amount:")
    child.send("abc\r")
    child.expect("amount: 'abc' is not a whole number")
    child.expect("amount:")
    child.send("30\r")
    child.expect("account 17: balance 70")
    child.send("withdraw 17 1000\r")
    child.expect("refused: not enough funds")
    child.send("depsoit 1 1\r")
    child.expect("did you mean deposit")
    child.send("help\r")
    child.expect("transfer ACCOUNT TO AMOUNT")
    child.send("bal\t 17\r")  # completion
    child.expect("account 17: balance 70")
    child.send("deposit\r")
    child.expect("account:")
    child.send("\x03")  # Ctrl-C: forget it
    child.expect("bank>")
    child.send("status\r")
    child.expect("transactions answered")
    child.send("\x04")  # Ctrl-D
    child.expect("(?s).*")
    child.wait()
    assert child.exitstatus == 0
    kept = (tmp_path / ".local/state/paxos-twisted/bankclient-history").read_text()
    assert "+deposit 17 100" in kept


def test_history_is_there_in_the_next_conversation(talk: Callable[..., Any]) -> None:
    child = talk()
    child.send("deposit 5 55\r")
    child.expect("account 5: balance 55")
    child.send("\x04")
    child.expect("(?s).*")
    child.wait()
    again = talk()
    again.send("\x1b[A\r")  # up
    again.expect("account 5: balance 110")


def test_a_person_sees_the_redirect(talk: Callable[..., Any], live: Live) -> None:
    child = talk(2, 1)
    child.send("deposit 17 100\r")
    child.expect(re.escape(f"{live.address(2)} says that node 1 at {live.address(1)} leads"))
    child.expect("account 17: balance 100")


def test_a_person_sees_that_the_leader_is_gone_and_the_next_one_answers(talk: Callable[..., Any], live: Live) -> None:
    child = talk()
    child.send("deposit 17 100\r")
    child.expect("account 17: balance 100")
    live.obey("2 lead", "1 down")
    child.send("deposit 17 100\r")
    child.expect("account 17: balance 200")
