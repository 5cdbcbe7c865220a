"""`kvclient` as a process against a cluster of real nodes: single commands, pipes, the prompt, the bench, histories."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from paxos_twisted.check.command import check_history
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.limits import KV_VALUE_BYTES_MAX

pytestmark = pytest.mark.integration

KVCLIENT = [sys.executable, "-c", "from paxos_twisted_client.kvclient import main; main()"]
LIMIT_S = 120
CALM = ("--read-timeout", "30s", "--timeout", "60s", "--output", "json")
"""A busy machine is no reason to repeat a request."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster.create(tmp_path_factory.mktemp("kv") / "cluster", application="kv") as made:
        made.start()
        made.wait_ready()
        made.leader()
        yield made


def kv(cluster: LocalCluster, *words: object, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAXOS_")}
    return subprocess.run(
        [*KVCLIENT, *map(str, words), "--config", str(cluster.config_path)],
        input=given,
        capture_output=True,
        timeout=LIMIT_S,
        env=environment,
        check=False,
    )


def test_single_commands(cluster: LocalCluster) -> None:
    assert kv(cluster, "put", "one/a", "1").stdout == b"done\n"
    assert kv(cluster, "get", "one/a").stdout == b"1", "a pipe gets the bytes and nothing else"
    refused = kv(cluster, "create", "one/a", "2")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, b"", b"not done: one/a exists\n")
    assert kv(cluster, "cas", "one/a", "1", "3").returncode == 0
    everything = bytes(range(256))
    assert kv(cluster, "put", "one/b", given=everything).returncode == 0
    assert kv(cluster, "get", "one/b").stdout == everything
    listed = kv(cluster, "list", "one/", "", "1")
    assert (listed.stdout, listed.stderr) == (b"one/a\t3\n", b"there are more: list one/ one/a 1\n")
    found = json.loads(kv(cluster, "list", "one/", "one/a", "--output", "json").stdout)
    ((key, value),) = found["result"]["pairs"]
    assert (key, list(value)) == ("one/b", ["base64"])
    assert kv(cluster, "delete", "one/a").stdout == b"deleted\n"
    gone = kv(cluster, "get", "one/a")
    assert (gone.returncode, gone.stdout, gone.stderr) == (1, b"", b"one/a does not exist\n")
    long = kv(cluster, "put", "one/c", given=bytes(KV_VALUE_BYTES_MAX + 1))
    assert (long.returncode, long.stderr) == (1, b"refused: a value of 65537 bytes; 65536 are allowed\n")


def test_the_prompt(cluster: LocalCluster, tmp_path: Path) -> None:
    child: Any = pexpect.spawn(
        KVCLIENT[0],
        [*KVCLIENT[1:], "--config", str(cluster.config_path)],
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        encoding="utf-8",
        timeout=LIMIT_S,
        dimensions=(40, 120),
    )
    try:
        child.expect("put greeting hello")
        for typed, answer in (
            ("put two/a 'two words'", "done"),
            ("get two/a", "two words"),
            ("create two/a x", "not done: two/a exists"),
            ("put 'open", "a quote is not closed"),
            ("list two/", "two/a\\s+two words"),
            ("status", "operations answered"),
        ):
            child.expect("kv>")  # only then it listens
            child.send(f"{typed}\r")
            child.expect(answer)
        child.expect("kv>")
        child.send("delete\r")
        child.expect("key:")
        child.send("two/a\r")
        child.expect("deleted")
        child.expect("kv>")
        child.send("quit\r")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
    assert (tmp_path / "paxos-twisted" / "kvclient-history").exists()


@pytest.mark.parametrize("target", ["round-robin", "nearest"])
def test_a_bench_whose_leader_dies_is_linearizable(cluster: LocalCluster, tmp_path: Path, target: str) -> None:
    leader = cluster.leader()
    history = tmp_path / "history.jsonl"
    mix = "get=40,put=40,delete=8,cas=10,list=2"
    words = ["--bench", "-n", 150, "--clients", 4, "--keys", 60, "--mix", mix, "--history", history, "--target", target]
    crash = ["--at", 100, "--run", f"kill -9 {_pid(cluster, leader)}"]
    done = kv(cluster, *words, *crash, "--value-size", 20, "--output", "json", "--seed", 1)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["program"] == "kvclient"
    assert report["together"]["answered"] == 600
    assert report["plan"]["target"] == target
    assert report["plan"]["workload"]["mix"]["list"] == 2
    assert report["marks"][0]["exit_code"] == 0
    assert sum(report["reconnects"].values()) > 0
    assert check_history([history], "kv", fresh=False).outcome is Outcome.OK
    cluster.start(leader)
    cluster.wait_ready()


def test_many_outstanding_requests_with_large_values(cluster: LocalCluster) -> None:
    """256 answers of 64 KiB are more than a node keeps for one connection: it says so, and the reads come again."""
    size = ["--keys", 4, "--value-size", KV_VALUE_BYTES_MAX, "--output", "json"]
    assert kv(cluster, "--bench", "-n", 20, "--reads", 0, *size).returncode == 0
    done = kv(cluster, "--bench", "-n", 600, "--outstanding", 256, "--reads", 100, *size)
    report = json.loads(done.stdout)
    assert report["together"]["answered"] == 600
    assert report["reconnects"]["error"] == report["reconnects"]["closed"] == 0


def _pid(cluster: LocalCluster, node: Any) -> int:
    process = cluster.process(node)
    assert process is not None
    return process.pid


@pytest.fixture(scope="module")
def leaderless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster.create(tmp_path_factory.mktemp("epaxos") / "cluster", engine="epaxos", application="kv") as made:
        made.start()
        made.wait_ready()
        yield made


def _own_commits(cluster: LocalCluster) -> list[int]:
    """How many instances each node has brought to an end for its own clients."""
    pattern = r'^paxos_epaxos_commits_total\{[^}]*path="(?:fast|slow)"[^}]*\} (\d+)'
    texts = [cluster.apis[node].metrics() for node in cluster.members]
    return [sum(map(int, re.findall(pattern, text, re.MULTILINE))) for text in texts]


def test_without_a_leader_all_requests_go_to_the_first_node(leaderless: LocalCluster) -> None:
    before = _own_commits(leaderless)
    done = kv(leaderless, "--bench", "-n", 60, "--clients", 2, "--target", "first", *CALM)
    assert done.returncode == 0, done.stderr
    first, *others = [now - then for now, then in zip(_own_commits(leaderless), before, strict=True)]
    assert first > 0
    assert others == [0, 0]
    assert sum(json.loads(done.stdout)["reconnects"].values()) == 0


def test_without_a_leader_one_client_serves_itself_at_all_nodes_in_turns(leaderless: LocalCluster) -> None:
    before = _own_commits(leaderless)
    done = kv(leaderless, "--bench", "-n", 90, "--clients", 1, "--target", "round-robin", *CALM)
    assert done.returncode == 0, done.stderr
    assert [now - then for now, then in zip(_own_commits(leaderless), before, strict=True)] == [30, 30, 30]
    assert sum(json.loads(done.stdout)["reconnects"].values()) == 0


def test_without_a_leader_the_clients_of_a_dead_node_go_on_elsewhere(leaderless: LocalCluster, tmp_path: Path) -> None:
    """256 requests of a client at a time, nodes in turns, kill -9: every answer finds the request that caused it."""
    history = tmp_path / "history.jsonl"
    victim = leaderless.members[1]
    words = ["--bench", "-n", 600, "--clients", 2, "--outstanding", 256, "--target", "round-robin", "--reads", 50]
    crash = ["--at", 300, "--run", f"kill -9 {_pid(leaderless, victim)}"]
    more = ["--keys", 400, "--value-size", 20, "--history", history, "--output", "json"]
    done = kv(leaderless, *words, *crash, *more)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["together"]["answered"] == 1200
    assert sum(report["reconnects"].values()) > 0
    assert check_history([history], "kv", fresh=False).outcome is Outcome.OK
    leaderless.start(victim)
    leaderless.wait_ready()
