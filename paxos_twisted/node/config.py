"""The configuration of a cluster, checked: what must be equal on all nodes, and what belongs to one node.

`load` reads cluster.yml; `paxos_twisted.node.cluster_file` knows its shape, `docs/configuration.md` explains every key.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from paxos_twisted.core.epaxos.settings import LEADERLESS
from paxos_twisted.core.epaxos.settings import Settings as EPaxosSettings
from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.core.primary_backup.settings import Settings as PrimaryBackupSettings
from paxos_twisted.limits import CONFIG_BYTES_MAX
from paxos_twisted.node.cluster_file import ClusterFile, NodeSection, Report, fit
from paxos_twisted.node.config_checks import check, resolved
from paxos_twisted.node.config_text import effective, make_config
from paxos_twisted.node.quantities import Address
from paxos_twisted.node.secret import Secret, read_secret
from paxos_twisted.node.yaml_text import YamlError, parse_yaml
from paxos_twisted.types import NodeId

PROFILES: dict[str, tuple[int, str]] = {"default": (Settings().alpha, Settings().policy), "lab": (1, "lab")}
"""(alpha, policy) of a profile, used where the file does not say them itself."""


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal on all nodes. Nodes that differ in it refuse each other."""

    cluster: str
    engine: str
    application: str
    settings: Settings
    snapshot_every: int
    """Slots between two snapshots."""
    session_expiry: int
    """Slots of silence after which a session goes."""
    members: tuple[tuple[NodeId, str], ...]
    """Every replica and its address as written in the file, by id."""

    def digest(self) -> str:
        """32 hexadecimal digits that are equal exactly when everything in here is, for the handshake of peers."""
        text = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(b"paxos-twisted settings 1\n" + text).hexdigest()[:32]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to one node."""

    id: NodeId
    address: Address
    """Where peers and clients connect to."""
    listen: Address
    """Where the node listens: `address`, unless --listen says otherwise."""
    http: Address | None
    """Where it answers HTTP; None: nowhere."""
    data_dir: Path
    """Absolute."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that may be used."""

    path: Path
    profile: str
    shared: Shared
    nodes: tuple[Node, ...]
    """By id."""
    secret_file: Path | None
    secret: Secret | None
    """Peers prove with it that they belong to the cluster, and admin calls need it; None: no proof, no admin calls."""
    warnings: tuple[str, ...] = ()
    """What works but is probably not meant so."""

    def effective(self, node_id: int | None = None) -> str:
        """The configuration as YAML with every default written out, see `effective`."""
        return effective(self, node_id)

    @property
    def settings(self) -> Settings:
        """What the engine is told."""
        return self.shared.settings

    @property
    def members(self) -> tuple[NodeId, ...]:
        """The ids of all nodes, ascending."""
        return tuple(node.id for node in self.nodes)

    @property
    def addresses(self) -> dict[NodeId, str]:
        """host:port of every node, for redirects and peer links."""
        return {node.id: str(node.address) for node in self.nodes}

    def node(self, node_id: int) -> Node:
        """The node with this id.

        Raises:
            ConfigError: there is none.
        """
        for node in self.nodes:
            if node.id == node_id:
                return node
        ids = ", ".join(map(str, self.members))
        raise ConfigError([f"{self.path}: nodes: there is no node {node_id}; the file has {ids}"])

    def with_node(
        self,
        node_id: int,
        *,
        data_dir: Path | None = None,
        listen: Address | None = None,
        http: Address | None = None,
    ) -> "Config":
        """The same configuration with other values for one node, as given on its command line.

        Raises:
            ConfigError: there is no such node.
        """
        old = self.node(node_id)
        new = Node(
            id=old.id,
            address=old.address,
            listen=listen or old.listen,
            http=http or old.http,
            data_dir=Path(os.path.abspath(data_dir)) if data_dir else old.data_dir,
        )
        return msgspec.structs.replace(self, nodes=tuple(new if node is old else node for node in self.nodes))

    def check_node(self, node_id: int) -> None:
        """Check what only the machine of this node can know: its directories.

        Raises:
            ConfigError: there is no such node, or its data directory cannot be made or used.
        """
        node = self.node(node_id)
        index = self.nodes.index(node)
        where = f"{self.path}: data_dir of node {node_id} (nodes[{index}])"
        parent, folder = node.data_dir.parent, node.data_dir
        if os.path.lexists(folder):  # unlike Path.exists it never raises
            if not os.path.isdir(folder):
                raise ConfigError([f"{where}: {folder} is not a directory"])
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise ConfigError([f"{where}: directory {folder} cannot be read and written by this user"])
        elif not os.path.isdir(parent):
            raise ConfigError([f"{where}: the directory {parent} does not exist; type: mkdir -p {parent}"])
        elif not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigError([f"{where}: {folder.name} cannot be made in {parent}: no permission to write there"])


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check a cluster configuration, the same way on every machine (see `Config.check_node` for the rest).

    Raises:
        ConfigError: with all problems that were found.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror or error}"]) from error
    except ValueError as error:  # a zero byte in the name
        raise ConfigError([f"{name!r}: cannot be read: {error}"]) from error
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError([f"{name}: longer than {CONFIG_BYTES_MAX} bytes; this is no cluster configuration"])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}:{line}: not UTF-8 text"]) from error
    return parse(text, name)


def parse(text: str, name: str = "cluster.yml") -> Config:
    """Check a configuration given as text; `name` is the file that it stands for: relative paths start there.

    Raises:
        ConfigError: with all problems that were found.
    """
    try:
        value, lines = parse_yaml(text)
    except YamlError as error:
        raise ConfigError([f"{name}:{error.line}: {error.text}"]) from error
    if value is None:
        raise ConfigError([f"{name}: the file is empty; docs/configuration.md shows an example"])
    report = Report(name, lines)
    file: ClusterFile | None = fit(ClusterFile, value, (), report)
    config = None if file is None else _checked(file, Path(os.path.abspath(name)), name, report)
    if report.errors or config is None:
        raise ConfigError(report.errors)
    return config


def _checked(file: ClusterFile, path: Path, name: str, report: Report) -> Config | None:
    """The configuration, if its values go together; None after a report."""
    settings = _settings(file)
    check(file, settings, path.parent, report)
    secret_file, secret = _secret(file.secret_file, path.parent, report)
    if report.errors:
        return None
    nodes = tuple(sorted((_node(section, path.parent) for section in file.nodes), key=lambda node: node.id))
    shared = Shared(
        cluster=file.cluster,
        engine=file.engine,
        application=file.application,
        settings=settings,
        snapshot_every=file.snapshot_every,
        session_expiry=file.session_expiry,
        members=tuple((node.id, str(node.address)) for node in nodes),
    )
    return Config(
        path=Path(name),
        profile=file.profile,
        shared=shared,
        nodes=nodes,
        secret_file=secret_file,
        secret=secret,
        warnings=tuple(report.warnings),
    )


def _settings(file: ClusterFile) -> Settings:
    alpha, policy = PROFILES[file.profile]
    common = Settings(
        alpha=alpha if file.alpha is None else file.alpha,
        policy=policy if file.detector.policy is None else file.detector.policy,
        heartbeat_ms=file.detector.heartbeat,
        delay_ms=file.detector.delay,
        delta_ms=file.detector.delta,
        phase1_ms=file.timeouts.phase1,
        phase2_ms=file.timeouts.phase2,
        catch_up_ms=file.timeouts.catch_up,
        disk_slow_ms=file.timeouts.disk_slow,
    )
    if file.engine == "epaxos":
        return EPaxosSettings(
            **{**msgspec.structs.asdict(common), "policy": LEADERLESS},
            thrifty=file.epaxos.thrifty,
            answer_ms=file.epaxos.answer,
            recover_ms=file.epaxos.recover,
            hold_ms=file.epaxos.hold,
        )
    if file.engine == "primary-backup":
        return PrimaryBackupSettings(**msgspec.structs.asdict(common), mode=file.primary_backup.mode)
    return common


def _node(section: NodeSection, folder: Path) -> Node:
    return Node(
        id=NodeId(section.id),
        address=section.address,
        listen=section.address,
        http=section.http,
        data_dir=resolved(folder, section.data_dir),
    )


def _secret(given: str | None, folder: Path, report: Report) -> tuple[Path | None, Secret | None]:
    if not given:
        return None, None
    path = resolved(folder, given)
    try:
        secret, warning = read_secret(path)
    except ValueError as error:
        report.error(("secret_file",), str(error))
        return path, None
    if warning:
        report.warn(("secret_file",), warning)
    return path, secret


__all__ = ["Config", "ConfigError", "Node", "Shared", "load", "make_config", "parse"]
