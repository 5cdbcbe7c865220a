"""Tells agents (fault.py) to strike, now. bankclient calls it at command k: bankclient --bench --at K --run "trigger …"

Whom it means is decided at this moment: the node that leads by its own word, one that does not, or all.
"""

import argparse
import json
import os
import socket
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 2.0


class Node(NamedTuple):
    """A node, where its agent is, and where it tells its status."""

    name: str
    agent: str
    http: str

    @classmethod
    def of(cls, text: str) -> "Node":
        """From name=host:port=host:port."""
        return cls(*text.split("="))


def role(node: Node) -> str:
    """What the node says it is, or "silent"."""
    try:
        with urllib.request.urlopen(f"http://{node.http}/status", timeout=TIMEOUT_S) as answer:
            return str(json.load(answer).get("role", "starting"))
    except (OSError, ValueError):
        return "silent"


def choose(nodes: list[Node], target: str) -> list[Node]:
    """The nodes that are meant.

    Raises:
        SystemExit: nobody is.
    """
    if target == "all":
        return nodes
    with ThreadPoolExecutor(len(nodes)) as pool:
        roles = dict(zip(nodes, pool.map(role, nodes), strict=True))
    wanted = [node for node, is_now in roles.items() if is_now == target]
    if not wanted:
        said = ", ".join(f"{node.name}: {is_now}" for node, is_now in roles.items())
        raise SystemExit(f"no node is {target} ({said})")
    return wanted[:1]


def call(agent: str, token: str, argument: str) -> bool:
    """Say the word to one agent."""
    host, _, port = agent.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            connection.sendall(f"{token} {argument}\n".encode())
            connection.settimeout(TIMEOUT_S)
            return connection.recv(3) == b"ok\n"
    except OSError:
        return False


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", choices=["leader", "follower", "all"], required=True)
    parser.add_argument("--agent", help="one agent for all, e.g. of the machine that can cut others' power")
    parser.add_argument("--token", default=os.environ.get("CRASH_TOKEN", ""))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("nodes", nargs="+", type=Node.of, metavar="NAME=AGENT=HTTP")
    options = parser.parse_args()
    asked_ns = time.time_ns()
    chosen = choose(options.nodes, options.target)
    chosen_ns = time.time_ns()
    agents = {options.agent or node.agent: node.name for node in chosen}
    with ThreadPoolExecutor(len(agents)) as pool:
        heard = list(pool.map(lambda agent: call(agent, options.token, agents[agent]), agents))
    note: dict[str, Any] = {
        "target": options.target,
        "nodes": [node.name for node in chosen],
        "asked_ns": asked_ns,
        "chosen_ns": chosen_ns,
        "called_ns": time.time_ns(),
        "heard": all(heard),
    }
    with options.out.open("a") as file:  # there may be several, one after the other
        file.write(json.dumps(note) + "\n")
    return 0 if all(heard) else 1


if __name__ == "__main__":
    sys.exit(main())
