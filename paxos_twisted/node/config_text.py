"""Configurations as text: the effective one for people to read, and new ones for clusters on one machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from paxos_twisted.core.epaxos.settings import Settings as EPaxosSettings
from paxos_twisted.limits import NODES_MAX
from paxos_twisted.node.quantities import Address, Duration, format_duration

if TYPE_CHECKING:
    from paxos_twisted.node.config import Config

HTTP_PORT_OFFSET = 100
"""On one machine a node answers HTTP this far above its port."""


def effective(config: Config, node_id: int | None = None) -> str:
    """The configuration as YAML with every default written out, as `--check` prints it. `load` reads it back; only
    --listen has no key and stands in a comment."""
    shared, settings = config.shared, config.settings
    head = [f"# {config.path}: effective configuration" + (f" of node {node_id}" if node_id is not None else "")]
    head += [f"# digest {shared.digest()} (equal on all nodes)"]
    head += [f"# warning: {warning}" for warning in config.warnings]
    head += [f"# node {node.id} listens on {node.listen}" for node in config.nodes if node.listen != node.address]
    # Primary-backup has one policy and epaxos none: they refuse the key.
    policy = f"policy: {settings.policy}, " if shared.engine == "multipaxos" else ""
    alpha = [] if shared.engine == "epaxos" else [f"alpha: {settings.alpha}"]
    own = settings if isinstance(settings, EPaxosSettings) else EPaxosSettings()
    lines = [
        f"cluster: {_text(shared.cluster)}",
        f"engine: {shared.engine}",
        f"application: {shared.application}",
        f"profile: {config.profile}",
        *alpha,
        f"detector: {{{policy}heartbeat: {_ms(settings.heartbeat_ms)}, "
        f"delay: {_ms(settings.delay_ms)}, delta: {_ms(settings.delta_ms)}}}",
        f"timeouts: {{phase1: {_ms(settings.phase1_ms)}, phase2: {_ms(settings.phase2_ms)}, "
        f"catch_up: {_ms(settings.catch_up_ms)}, disk_slow: {_ms(settings.disk_slow_ms)}}}",
        f"epaxos: {{thrifty: {'true' if own.thrifty else 'false'}, answer: {_ms(own.answer_ms)}, "
        f"recover: {_ms(own.recover_ms)}, hold: {_ms(own.hold_ms)}}}",
        f"primary_backup: {{mode: {getattr(settings, 'mode', 'safe')}}}",
        f"snapshot_every: {shared.snapshot_every}",
        f"session_expiry: {shared.session_expiry}",
    ]
    if config.secret_file:
        lines.append(f"secret_file: {_text(str(config.secret_file))}")
    lines.append("nodes:")
    lines += [_node(node.id, node.address, node.http, str(node.data_dir)) for node in config.nodes]
    return "\n".join([*head, *lines, ""])


def make_config(
    f: int = 1,
    base_port: int = 7100,
    directory: str | Path = "data",
    *,
    cluster: str = "local",
    application: str = "bank",
    engine: str = "multipaxos",
    profile: str = "default",
    host: str = "127.0.0.1",
    ports: Sequence[tuple[int, int]] | None = None,
    secret_file: str | Path | None = None,
    nodes: int | None = None,
    more: str = "",
) -> str:
    """Return the text of a configuration of 2f+1 nodes on one machine.

    Node i listens on `base_port` + i, answers HTTP on `base_port` + 100 + i and keeps its data in `directory`/i.

    Args:
        nodes: how many, instead of 2f+1: the engine primary-backup can have an even number.
        ports: the (port, HTTP port) of each node, instead of counting from `base_port`.
        more: further lines, e.g. "alpha: 8\\n".

    Raises:
        ValueError: `f` is out of range, or `ports` does not hold one pair for each node.
    """
    count = 2 * f + 1 if nodes is None else nodes
    if not 1 <= count <= NODES_MAX:
        raise ValueError(f"f = {f}: f must be in 0..{(NODES_MAX - 1) // 2}, for 2f+1 nodes")
    pairs = ports or [(base_port + i, base_port + HTTP_PORT_OFFSET + i) for i in range(1, count + 1)]
    if len(pairs) != count:
        raise ValueError(f"{len(pairs)} pairs of ports for {count} nodes")
    lines = [
        f"# {count} nodes on this machine: {(count - 1) // 2} of them may fail. "
        "docs/configuration.md explains every key.",
        f"cluster: {_text(cluster)}",
        f"engine: {engine}",
        f"application: {application}",
        f"profile: {profile}",
        *([f"secret_file: {_text(str(secret_file))}"] if secret_file else []),
        *more.splitlines(),
        "nodes:",
    ]
    for i, (port, http_port) in enumerate(pairs, 1):
        lines.append(_node(i, Address(host, port), Address(host, http_port), f"{directory}/{i}"))
    return "\n".join([*lines, ""])


def _node(node_id: int, address: Address, http: Address | None, data_dir: str) -> str:
    web = f"http: {_text(str(http))}, " if http else ""
    return f"  - {{id: {node_id}, address: {_text(str(address))}, {web}data_dir: {_text(data_dir)}}}"


def _ms(milliseconds: int) -> str:
    return format_duration(Duration(milliseconds))


def _text(text: str) -> str:
    """A text as a YAML value, in quotes unless everybody sees that it is one."""
    if re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*|[0-9.]+:[0-9]+", text) and text not in ("true", "false", "null"):
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=2**30).rstrip("\n")
