"""Makes what a new cluster needs: its configuration, its secret, and the data directories of nodes that have never run.

Done once for all nodes together, and never again: when the configuration is there, nothing is touched. So a node whose
volume was lost does not come back as if it had never promised anything; it refuses to start, and says why.
"""

import os
import sys
from pathlib import Path

from paxos_twisted.node.config import load
from paxos_twisted.node.secret import new_secret
from paxos_twisted.storage.directory import create

NODES = 3
ETC = Path(os.environ.get("PAXOS_ETC", "/etc/paxosnode"))
DATA = Path(os.environ.get("PAXOS_DATA", "/data"))
PREFIX = os.environ.get("PAXOS_PREFIX", "172.28.7")
NAME = os.environ.get("PAXOS_CLUSTER", "docker")
ENGINE = os.environ.get("PAXOS_ENGINE", "multipaxos")
APPLICATION = os.environ.get("PAXOS_APPLICATION", "bank")


def main() -> int:
    """Prepare, unless it was done. Says what it did."""
    config = ETC / "cluster.yml"
    if config.exists():
        print(f"{config} is there: nothing to do")
        return 0
    secret = ETC / "secret"
    secret.unlink(missing_ok=True)
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(new_secret() + "\n")
    lines = [f"cluster: {NAME}", f"engine: {ENGINE}", f"application: {APPLICATION}", "secret_file: secret", "nodes:"]
    for node in range(1, NODES + 1):
        where = f"address: {PREFIX}.{10 + node}:7101, http: {PREFIX}.{10 + node}:7201"
        lines.append(f"  - {{id: {node}, {where}, data_dir: /var/lib/paxosnode/data}}")
    unfinished = config.with_suffix(".new")
    unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = load(unfinished)
    for node in made.nodes:
        create(DATA / str(node.id) / "data", NAME, node.id)
    unfinished.rename(config)  # last: if anything fails before, the next start says what is in the way
    print(f"cluster {NAME} is prepared: {NODES} nodes at {PREFIX}.11 and up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
