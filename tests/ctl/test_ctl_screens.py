"""What people see of a cluster, as text."""

import io

import pytest
from rich.console import Console, RenderableType
from statuses import Statuses, cluster, status

from paxos_twisted.ctl.agreement import Check, Verdict
from paxos_twisted.ctl.node_api import Commands, DiskStatus, NodeUnreachable, PeerStatus
from paxos_twisted.ctl.screens import checks_table, cluster_screen, duration, size
from paxos_twisted.types import NodeId


def shown(screen: RenderableType, width: int = 80) -> str:
    """A screen as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_healthy_cluster_fits_a_small_terminal() -> None:
    text = shown(cluster_screen("test", cluster()))
    assert "★ node 1 leads" in text
    assert "test  3 nodes · multipaxos · bank" in text
    assert "…" not in text
    assert text.count("abcdef01") == 3


@pytest.mark.parametrize(
    ("statuses", "texts"),
    [
        pytest.param(
            cluster(n3=NodeUnreachable("127.0.0.1:7203: nobody listens there")),
            ["✗ silent", "1 of 3 do not answer", "node 3: 127.0.0.1:7203: nobody listens there"],
            id="a node that does not answer",
        ),
        pytest.param(cluster(n2=status(2, slots=7)), ["7 -3"], id="a node that lags by three slots"),
        pytest.param(cluster(n2=status(2, applied=5)), ["10 (4 to apply)"], id="a node that has to apply four"),
        pytest.param(
            cluster(n2=status(2, disk=DiskStatus(state="full"))), ["full"], id="a full disk stands where its size was"
        ),
        pytest.param(
            cluster(n1=status(1, peers={"2": PeerStatus(up=False), "3": PeerStatus(up=True, suspected=True)})),
            ["✗2 ?3"],
            id="a peer that is down and one that is suspected",
        ),
        pytest.param(
            cluster(n1=status(1, faults=["1->2 loss=0.2"])),
            ["node 1 has message faults: 1->2 loss=0.2"],
            id="message faults are not forgotten",
        ),
        pytest.param(
            cluster(n1=status(1, findings=["the record [3] is unreadable"])),
            ["node 1: the record [3] is unreadable"],
            id="findings, with brackets as they are",
        ),
        pytest.param(
            cluster(n1=status(1, role="follower"), n2=status(2, ready=False)),
            ["no leader", "◌ follower"],
            id="nobody leads, and a node is not ready",
        ),
    ],
)
def test_what_is_remarkable_is_shown(statuses: Statuses, texts: list[str]) -> None:
    screen = shown(cluster_screen("test", statuses), width=100)
    for text in texts:
        assert text in screen


def test_the_state_of_processes_on_this_machine_is_shown() -> None:
    silent = cluster(n2=NodeUnreachable("its process is frozen"), n3=NodeUnreachable("its process is gone"))
    states = {NodeId(1): "running", NodeId(2): "frozen", NodeId(3): "gone"}
    screen = shown(cluster_screen("test", silent, states))
    assert "❄ frozen" in screen
    assert "✗ dead" in screen


def test_checks_have_a_mark_each() -> None:
    table = shown(
        checks_table(
            [
                Check("one", Verdict.OK, "well"),
                Check("two", Verdict.VIOLATION, "wrong"),
                Check("three", Verdict.UNKNOWN, "who knows"),
            ]
        )
    )
    assert [line.split() for line in table.splitlines()] == [
        ["✓", "one", "well"],
        ["✗", "two", "wrong"],
        ["?", "three", "who", "knows"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.31, "0.3 s"), (45.4, "45 s"), (119, "119 s"), (150, "2 min"), (9000, "2 h"), (10**6, "12 d")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (10_327_544, "10 MB"), (3 * 10**13, "30.0 TB")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


def test_slots_are_the_sum_of_what_became_of_them() -> None:
    assert Commands(applied=3, noops=2, duplicates=1, from_snapshot=10).slots == 16


def test_a_cluster_without_leaders_misses_none() -> None:
    nodes = {NodeId(n): status(n, engine="epaxos", role="replica", leader=n, round=-1) for n in (1, 2, 3)}
    text = shown(cluster_screen("test", nodes))
    assert "every node serves" in text
    assert "no leader" not in text
    assert text.count("● replica") == 3
