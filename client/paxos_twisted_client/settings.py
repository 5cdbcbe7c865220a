"""The options that all our client programs share: which cluster, how patient, how to print."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from paxos_twisted_client.cluster_file import ClusterFileError, Target, read_cluster_file
from paxos_twisted_client.endpoints import parse_addresses
from paxos_twisted_client.options import Patience

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_CLUSTER: Final = "demo"
DEFAULT_FILE: Final = "cluster.yml"

LOSS_MAX: Final = 0.9
"""With more, hardly any handshake would be followed by an answer."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


class DurationType(click.ParamType[float]):
    """A time with its unit, e.g. 250ms."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float | int):
            return float(value)
        found = _DURATION.fullmatch(value.strip())
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is not a duration; write a number above 0 and a unit: 250ms, 1s, 2m", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


def shared_options(function: Function) -> Function:
    """Add the shared options to a command. They may stand before or behind a subcommand."""
    patience = Patience()
    options = [
        click.option("--nodes", metavar="HOST:PORT,…", help="Addresses of the nodes.  [env: PAXOS_NODES]"),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path),
            help=f"Cluster configuration to read the addresses from; {DEFAULT_FILE} in the current folder is found by "
            "itself.  [env: PAXOS_CONFIG]",
        ),
        click.option(
            "--cluster", help=f"Name of the cluster, with --nodes; else {DEFAULT_CLUSTER!r}.  [env: PAXOS_CLUSTER]"
        ),
        click.option(
            "--output",
            type=click.Choice(["table", "json"]),
            help="How results are printed; else table.  [env: PAXOS_OUTPUT]",
        ),
        click.option(
            "--timeout",
            type=DurationType(),
            help=f"For one request, with all retries; else {patience.request_s:g}s.  [env: PAXOS_TIMEOUT]",
        ),
        click.option(
            "--dial-timeout", type=DurationType(), help=f"To reach a node; else {patience.dial_s * 1000:g}ms."
        ),
        click.option("--read-timeout", type=DurationType(), help=f"For a node to answer; else {patience.read_s:g}s."),
        click.option(
            "--write-timeout", type=DurationType(), help=f"For a node to take bytes; else {patience.write_s:g}s."
        ),
        click.option(
            "--loss",
            type=click.FloatRange(0, LOSS_MAX),
            help="Share of messages, 0.05 for 5 %, that is lost on purpose in either direction, as if by the network.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Settings:
    """The shared options, gathered from the command line (the last place wins) and the environment."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def take(self, given: dict[str, Any]) -> None:
        """Remember the options of one place."""
        self._given |= {name: value for name, value in given.items() if value is not None}

    @property
    def is_json(self) -> bool:
        """Whether results are printed as JSON."""
        output = self._value("output", click.Choice(["table", "json"])) or "table"
        return bool(output == "json")

    @property
    def loss(self) -> float:
        """Share of messages to lose."""
        return float(self._value("loss", click.FloatRange(0, LOSS_MAX)) or 0.0)

    def patience(self) -> Patience:
        """The timeouts."""
        standard = Patience()
        kind = DurationType()
        return Patience(
            dial_s=self._value("dial_timeout", kind) or standard.dial_s,
            read_s=self._value("read_timeout", kind) or standard.read_s,
            write_s=self._value("write_timeout", kind) or standard.write_s,
            request_s=self._value("timeout", kind) or standard.request_s,
        )

    def target(self, application: str) -> Target:
        """The cluster: `--nodes` wins over `--config`, the command line over the environment.

        Raises:
            click.UsageError: it is not named, or its configuration cannot be used.
        """
        given, environment = self._given, os.environ
        for nodes, config in (
            (given.get("nodes"), given.get("config")),
            (environment.get("PAXOS_NODES"), environment.get("PAXOS_CONFIG")),
        ):
            if nodes:
                return self._from_nodes(nodes, application)
            if config:
                return self._from_file(Path(config), application)
        if Path(DEFAULT_FILE).is_file():
            return self._from_file(Path(DEFAULT_FILE), application)
        raise click.UsageError(
            f"Which cluster? Give --nodes host:port,host:port or --config FILE, set PAXOS_NODES or PAXOS_CONFIG, "
            f"or start me where {DEFAULT_FILE} is."
        )

    def _from_nodes(self, nodes: str, application: str) -> Target:
        try:
            addresses = parse_addresses(nodes)
        except ValueError as error:
            raise click.UsageError(f"--nodes: {error}") from error
        return Target(self._value("cluster") or DEFAULT_CLUSTER, application, addresses)

    def _from_file(self, path: Path, application: str) -> Target:
        try:
            target = read_cluster_file(path)
        except ClusterFileError as error:
            raise click.UsageError(str(error)) from error
        if target.application != application:
            raise click.UsageError(f"{path}: this cluster runs {target.application}; use {target.application}client")
        return target

    def _value(self, name: str, kind: "click.ParamType[Any] | None" = None) -> Any:
        value = self._given.get(name)
        if value is None:
            variable = f"PAXOS_{name.upper()}"
            value = os.environ.get(variable) or None
            if value is not None and kind is not None:
                try:
                    value = kind.convert(value, None, None)
                except click.BadParameter as error:
                    raise click.UsageError(f"{variable}: {error.message}") from error
        return value
