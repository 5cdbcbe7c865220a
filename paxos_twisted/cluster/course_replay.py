"""`python -m paxos_twisted.cluster.course_replay`: three scenes of EPaxos with five real replicas, and their messages.

    1  two conflicting writes, at replicas 0 and 3, one after the other            fast path, twice
    2  the same while Commits are held back                                        fast path, then slow path
    3  a write at replica 0 and a read at 2 while Commits are held back            the read waits for the write

Replica i is node i + 1. Each scene prints the messages that led to its decisions (the nodes' own trace) and what the
clients got. Exit code: 0 all as expected, 1 not.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.ctl.agreement import wait_until_quiet
from paxos_twisted.ctl.node_api import NodeError
from paxos_twisted.types import NodeId

HOLD: Final = "2s"
"""How long each Commit is held back in scenes 2 and 3."""

QUIET_S: Final = 30.0

_TRACE = re.compile(r"node (\d+) info +(to [\d, ]+: (?:PreAccept|PreAcceptReply|Accept|AcceptReply|Commit) .*)$")


class Paths(NamedTuple):
    """Commits of all nodes so far."""

    fast: int
    slow: int


class Scene(NamedTuple):
    """What is done, and what should come of it."""

    title: str
    is_held: bool
    steps: tuple[tuple[int, tuple[str, ...]], ...]
    """(replica, words for kvclient)."""
    expected: Paths
    answer: str
    """What the last step must print."""


SCENES: Final = (
    Scene("two conflicting writes", False, ((0, ("put", "x", "1")), (3, ("put", "x", "2"))), Paths(2, 0), ""),
    Scene("the same, Commits held back", True, ((0, ("put", "x", "3")), (3, ("put", "x", "4"))), Paths(1, 1), ""),
    Scene("a write and a read, Commits held back", True, ((0, ("put", "x", "5")), (2, ("get", "x"))), Paths(2, 0), "5"),
)


def main() -> int:
    """Play all scenes; return the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="paxos-replay-") as folder,
        LocalCluster.create(Path(folder) / "cluster", 2, engine="epaxos", application="kv") as cluster,
    ):
        for node in cluster.members:
            cluster.options[node] = ["--trace", "attributes"]
        cluster.start()
        cluster.wait_ready()
        verdicts = [play(cluster, scene) for scene in SCENES]
    return 0 if all(verdicts) else 1


def play(cluster: LocalCluster, scene: Scene) -> bool:
    """Play one scene on a quiet cluster. Returns whether all was as expected."""
    print(f"\n{scene.title}")
    wait_until_quiet(cluster.apis, QUIET_S)
    before = paths(cluster)
    written = {node: cluster.log(node).stat().st_size for node in cluster.members}
    if scene.is_held:
        order(cluster, [f"*->* kinds=Commit delay={HOLD}"])
    said = ""
    for replica, words in scene.steps:
        began = time.monotonic()
        said = ask(cluster, cluster.members[replica], words)
        took_ms = (time.monotonic() - began) * 1000
        print(
            f"  replica {replica}: {' '.join(words)}  ->  {said or 'done'}  ({took_ms:.0f} ms with the client's start)"
        )
    order(cluster, [])
    wait_until_quiet(cluster.apis, QUIET_S)
    after = paths(cluster)
    for line in dict.fromkeys(messages(cluster, written)):  # a Commit that is held back is asked for, and sent, again
        print(f"    {line}")
    found = Paths(after.fast - before.fast, after.slow - before.slow)
    is_right = found == scene.expected and (not scene.answer or said == scene.answer)
    print(f"  commits: {found.fast} fast, {found.slow} slow: {'as expected' if is_right else f'NOT {scene.expected}'}")
    return is_right


def ask(cluster: LocalCluster, node: NodeId, words: Sequence[str]) -> str:
    """Run one operation with the ordinary client, at one node; return what it printed."""
    place = ["--nodes", cluster.config.addresses[node], "--cluster", cluster.config.shared.cluster]
    command = [sys.executable, "-c", "from paxos_twisted_client.kvclient import main; main()"]
    done = subprocess.run(
        [*command, *place, "--timeout", "30s", "--read-timeout", "20s", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        print(f"  kvclient: {done.stderr.strip()}")
    return done.stdout.strip()


def order(cluster: LocalCluster, rules: Sequence[str]) -> None:
    """Set the rules of the message-fault layer everywhere; none: take it out."""
    for api in cluster.apis.values():
        api.order("fault", {"seed": 0, "rules": list(rules)})


def paths(cluster: LocalCluster) -> Paths:
    """Commits on each path, of all nodes."""
    fast = slow = 0
    for api in cluster.apis.values():
        metrics = api.metrics()
        fast += _count(metrics, "fast")
        slow += _count(metrics, "slow")
    return Paths(fast, slow)


def messages(cluster: LocalCluster, start: dict[NodeId, int]) -> list[str]:
    """The traced messages that the nodes have sent since, in the order of time."""
    found: list[tuple[str, str]] = []
    for node, offset in start.items():
        with cluster.log(node).open(encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            for line in file:
                match = _TRACE.search(line)
                if match is not None:
                    found.append((line[:24], f"replica {cluster.members.index(NodeId(int(match[1])))} {match[2]}"))
    return [text for _, text in sorted(found, key=lambda one: one[0])]


def _count(metrics: str, path: str) -> int:
    match = re.search(rf'^paxos_epaxos_commits_total\{{path="{path}"\}} ([0-9.]+)$', metrics, re.MULTILINE)
    if match is None:
        raise NodeError("the node does not tell its commits")
    return int(float(match[1]))


if __name__ == "__main__":
    sys.exit(main())
