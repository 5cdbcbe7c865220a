"""What a client reads from a cluster configuration: name, application, addresses. The nodes check the rest."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted_client.endpoints import Address, parse_address
from paxos_twisted_client.limits import ADDRESSES_MAX


class ClusterFileError(Exception):
    """The file cannot be used; the text names the file and the key."""


class Target(NamedTuple):
    """Which cluster to talk to."""

    cluster: str
    application: str
    addresses: tuple[Address, ...]


def read_cluster_file(path: Path) -> Target:
    """Read a cluster configuration.

    Raises:
        ClusterFileError: there is no such file, it is not YAML, or a key that we need is missing or wrong.
    """
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ClusterFileError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterFileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ClusterFileError(f"{path}: expected a mapping with the keys cluster, application, nodes")
    cluster = content.get("cluster")
    if not isinstance(cluster, str) or not cluster:
        raise ClusterFileError(f"{path}: cluster: expected a name, found {cluster!r}")
    application = content.get("application")
    if application not in APPLICATIONS:
        raise ClusterFileError(f"{path}: application: expected one of {', '.join(APPLICATIONS)}, found {application!r}")
    nodes = content.get("nodes")
    if not isinstance(nodes, list) or not 0 < len(nodes) <= ADDRESSES_MAX:
        raise ClusterFileError(f"{path}: nodes: expected a list of 1 to {ADDRESSES_MAX} nodes")
    addresses = []
    for index, node in enumerate(nodes):
        text = node.get("address") if isinstance(node, dict) else None
        if not isinstance(text, str):
            raise ClusterFileError(f"{path}: nodes[{index}].address: expected host:port, found {text!r}")
        try:
            addresses.append(parse_address(text))
        except ValueError as error:
            raise ClusterFileError(f"{path}: nodes[{index}].address: {error}") from error
    return Target(cluster, application, tuple(addresses))
