"""Auctions on real processes: the twelve steps, a primary that dies, the screen. [AU-31, AV-10, AV-22, AV-23]"""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from paxos_twisted.cluster.auction_run import run_auction, run_steps
from paxos_twisted.cluster.local import LocalCluster

pytestmark = pytest.mark.integration


def test_the_twelve_steps(tmp_path: Path) -> None:  # [AU-31]
    steps = run_steps(tmp_path / "run", tell=lambda step: None)
    assert [(step.number, step.said) for step in steps if not step.passed] == []
    assert len(steps) == 12


def test_no_acknowledged_bid_is_lost_when_the_primary_is_killed(tmp_path: Path) -> None:  # [AV-22, AV-23]
    outcome = run_auction(tmp_path / "run", bidders=8, duration_s=9.0, kills=1, every_ms=300, answer_delay_ms=100)
    assert outcome.findings == []
    assert len(outcome.killed) == 1
    assert outcome.report["success"] > 5
    views = {(replica.kind, replica.highest, replica.bidder) for replica in outcome.replicas}
    assert views == {("closed", outcome.report["highest"], outcome.report["winner"])}
    assert len(outcome.replicas) == 3


def test_on_the_screen_an_integer_is_a_bid_and_anything_else_asks(tmp_path: Path) -> None:  # [AU-07, AU-08]
    cluster = LocalCluster.create(tmp_path / "auction", application="auction")
    for node in cluster.members:
        cluster.options[node] = ["--answer-delay", "100ms"]
    start = "from paxos_twisted_client.auctionclient import main; main()"
    environment = dict(os.environ, TERM="xterm", XDG_STATE_HOME=str(tmp_path), NO_COLOR="1")
    with cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.leader()
        screen = pexpect.spawn(
            sys.executable, ["-c", start, "-id", "ann", "-c", str(cluster.config_path)],
            env=environment, timeout=30, encoding="utf-8", dimensions=(30, 120),
        )  # fmt: skip
        try:
            screen.expect("An integer is a bid")
            screen.expect("there is no auction")
            screen.sendline("/start 20s")
            screen.expect("live, ")
            screen.sendline("120")
            screen.expect("success: 120 is the highest bid")
            screen.sendline("100")
            screen.expect("fail: 100 is not above the highest bid, 120")
            cluster.kill(cluster.leader())
            screen.sendline("how does it stand?")
            screen.expect("highest bid 120 by ann - you lead")
            screen.sendline("/close")
            screen.expect("you have won")
            screen.sendline("/quit")
            screen.expect(pexpect.EOF)
            screen.close()
            assert screen.exitstatus == 0
        finally:
            screen.close(force=True)
