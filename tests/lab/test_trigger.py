"""Whom a crash test hits: the leader by its own word, or whoever serves the clients where nobody leads alone."""

from collections import Counter

import pytest
from test_inventory_checks import ANSIBLE, load

trigger = load(ANSIBLE / "roles/crash_test/files/trigger.py")
paxos = load(ANSIBLE / "filter_plugins/paxos.py")

NODES = [
    trigger.Node.of(f"node{number}=10.0.0.{number}:7399=10.0.0.{number}:7201=10.0.0.{number}:7101")
    for number in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("roles", "served", "target", "chosen"),
    [
        pytest.param(["follower", "leader", "follower"], {}, "leader", ["node2"], id="the leader"),
        pytest.param(["follower", "leader", "follower"], {}, "follower", ["node1"], id="a follower"),
        pytest.param(["silent", "silent", "silent"], {}, "all", ["node1", "node2", "node3"], id="all"),
        pytest.param(
            ["leader"] * 3, {"10.0.0.3": 4, "10.0.0.1": 1}, "leader", ["node3"], id="of equals, who serves the clients"
        ),
        pytest.param(["leader"] * 3, {"10.0.0.1": 4}, "follower", ["node2"], id="of equals, who does not serve them"),
        pytest.param(["replica"] * 3, {"10.0.0.2": 1}, "leader", ["node2"], id="an engine that knows no leaders"),
        pytest.param(
            ["silent", "candidate", "follower"], {"10.0.0.3": 2}, "leader", ["node3"], id="while leadership moves"
        ),
    ],
)
def test_who_is_meant(
    monkeypatch: pytest.MonkeyPatch, roles: list[str], served: dict[str, int], target: str, chosen: list[str]
) -> None:
    said = dict(zip(NODES, roles, strict=True))
    monkeypatch.setattr(trigger, "role", lambda node: said[node])
    counts = Counter({(address, 7101): count for address, count in served.items()})
    monkeypatch.setattr(trigger, "connections", lambda: counts)
    assert [node.name for node in trigger.choose(NODES, target)] == chosen


def test_nobody_is_hit_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "role", lambda node: "silent")
    with pytest.raises(SystemExit, match="no node is leader"):
        trigger.choose(NODES, "leader")


def test_agents_are_named_as_the_playbook_does() -> None:
    node = {"host": "node1", "id": 1, "address": "10.0.0.1:7101", "http": "10.0.0.1:7201"}
    assert trigger.Node.of(paxos.crash_agent(node, {"node1": {"address": "10.0.0.1"}}, 7399)) == NODES[0]
