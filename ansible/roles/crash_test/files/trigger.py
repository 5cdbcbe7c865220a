"""Tells agents (fault.py) to strike, now. bankclient calls it at command k: bankclient --bench --at K --run "trigger …"

Whom it means is decided at this moment: the node that leads by its own word, one that does not, or all. Where no node
leads alone (an engine without leaders), the one that serves this host's clients is meant instead: most of the
connections from here go there.
"""

import argparse
import json
import os
import socket
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 2.0
ESTABLISHED = "01"
"""The state of a connection in /proc/net/tcp."""


class Node(NamedTuple):
    """A node, where its agent is, where it tells its status, and where clients connect to."""

    name: str
    agent: str
    http: str
    address: str

    @classmethod
    def of(cls, text: str) -> "Node":
        """From name=host:port=host:port=host:port."""
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
    alive = [node for node, is_now in roles.items() if is_now != "silent"]
    leaders = [node for node, is_now in roles.items() if is_now == "leader"]
    if len(leaders) != 1 and alive:  # an engine without leaders, or one that is just changing them
        served = connections()
        leaders = [max(alive, key=lambda node: served[place(node.address)])]
    wanted = leaders if target == "leader" else [node for node in alive if node not in leaders]
    if not wanted:
        said = ", ".join(f"{node.name}: {is_now}" for node, is_now in roles.items())
        raise SystemExit(f"no node is {target} ({said})")
    return wanted[:1]


def connections() -> Counter[tuple[str, int]]:
    """How many TCP connections this host has to each address and port."""
    found: Counter[tuple[str, int]] = Counter()
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            fields = line.split()
            if fields[3] == ESTABLISHED:
                address, port = fields[2].split(":")
                words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                found[socket.inet_ntop(family, b"".join(words)), int(port, 16)] += 1
    return found


def place(text: str) -> tuple[str, int]:
    """The numeric address and the port of host:port."""
    host, _, port = text.rpartition(":")
    try:
        return str(socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4][0]), int(port)
    except OSError:
        return host, int(port)


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
    parser.add_argument("nodes", nargs="+", type=Node.of, metavar="NAME=AGENT=HTTP=ADDRESS")
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
