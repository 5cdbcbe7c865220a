"""`paxoscluster course` plays what the EPaxos course text describes, and the messages are those of the text."""

import json
import re
from typing import Any

import pytest
from cluster_tools import succeed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def played() -> list[dict[str, Any]]:
    situations: list[dict[str, Any]] = json.loads(succeed("paxoscluster", "course", "--output", "json"))
    return situations


def paths(situation: dict[str, Any]) -> list[tuple[int, str]]:
    return [(one["replica"], one["path"]) for one in situation["requests"]]


def sent(situation: dict[str, Any], sender: int, kind: str) -> list[tuple[set[int], str]]:
    """Receivers and dependencies of the messages of one kind from one replica."""
    return [
        (set(message["receivers"]), re.search(r"deps (\(.*?\))", message["text"])[1])  # type: ignore[index]
        for message in situation["messages"]
        if message["sender"] == sender and message["text"].startswith(kind)
    ]


def test_two_conflicting_writes_on_the_fast_path(played: list[dict[str, Any]]) -> None:
    situation = played[0]
    assert paths(situation) == [(0, "fast"), (3, "fast")]
    assert sent(situation, 0, "PreAccept") == [({1, 2}, "(-1, -1, -1, -1, -1)")]
    assert sent(situation, 3, "PreAccept") == [({0, 4}, "(0, -1, -1, -1, -1)")], "log entries count from 0"
    for owner in (0, 3):
        receivers = set().union(*(to for to, _ in sent(situation, owner, "Commit")))
        assert receivers == {0, 1, 2, 3, 4} - {owner}, "commits go to all others"
    assert not sent(situation, 3, "Accept")


def test_the_same_with_paused_commits_on_the_slow_path(played: list[dict[str, Any]]) -> None:
    situation = played[1]
    assert paths(situation) == [(0, "fast"), (3, "slow")]
    assert sent(situation, 3, "PreAccept") == [({0, 4}, "(0, -1, -1, 0, -1)")], "it knows nothing of the write at 0"
    assert sent(situation, 3, "Accept") == [({0, 4}, "(1, -1, -1, 0, -1)")], "replica 0 told it"


def test_a_read_waits_for_the_write_whose_commit_is_paused(played: list[dict[str, Any]]) -> None:
    situation = played[2]
    _, read = situation["requests"]
    assert read["result"] == {"value": "new"}
    assert [to for to, _ in sent(situation, 2, "PreAccept")] == [{3, 4}]
    assert situation["wrong"] == []
