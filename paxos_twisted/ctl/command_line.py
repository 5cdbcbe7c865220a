"""What the commands of paxosctl share: which cluster, how to print, how long to wait, how to end."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import msgspec
from rich.console import Console

from paxos_twisted.ctl.node_api import TIMEOUT_S, NodeApi, NodeError, apis_of
from paxos_twisted.node.config import Config, ConfigError, load
from paxos_twisted.node.quantities import parse_duration
from paxos_twisted.types import NodeId

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_VIOLATION: Final = 3
EXIT_UNKNOWN: Final = 4

EXIT_CODES: Final = """\b
Exit codes:
  0  done, all is well
  1  a node refused, or something failed
  2  wrong arguments, or a configuration that cannot be used
  3  a guarantee is violated
  4  it cannot be told: a node does not answer, or not in time
"""

DEFAULT_FILE: Final = "cluster.yml"

Function = TypeVar("Function", bound=Callable[..., Any])


class DurationType(click.ParamType[float]):
    """A time with its unit, e.g. 250ms; seconds for the program."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value) / 1000
        except ValueError as error:
            self.fail(str(error), param, ctx)


def options(function: Function) -> Function:
    """Add --config, --output and --timeout. They may stand before or behind the command's name."""
    for option in (
        click.option("--timeout", type=DurationType(), help=f"For a node to answer; else {TIMEOUT_S:g}s."),
        click.option("--output", type=click.Choice(["table", "json"]), help="How results are printed; else table."),
        click.option(
            "--config",
            "-c",
            type=click.Path(path_type=Path),
            help=f"The cluster's configuration; else {DEFAULT_FILE} in this folder.  [env: PAXOS_CONFIG]",
        ),
    ):
        function = option(function)
    return function


class Settings:
    """The shared options, gathered from both places; the last one wins."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def take(self, config: Path | None, output: str | None, timeout: float | None) -> "Settings":
        """Remember the options of one place."""
        given = {"config": config, "output": output, "timeout": timeout}
        self._given |= {name: value for name, value in given.items() if value is not None}
        return self

    @property
    def is_json(self) -> bool:
        """Whether results are printed as JSON."""
        return bool((self._given.get("output") or os.environ.get("PAXOS_OUTPUT")) == "json")

    @property
    def timeout_s(self) -> float:
        """For one answer of one node."""
        return float(self._given.get("timeout", TIMEOUT_S))

    def config_path(self) -> Path:
        """Where the configuration is.

        Raises:
            click.UsageError: nobody said, and there is none in this folder.
        """
        found = self._given.get("config") or os.environ.get("PAXOS_CONFIG")
        if found:
            return Path(found)
        if Path(DEFAULT_FILE).is_file():
            return Path(DEFAULT_FILE)
        raise click.UsageError(
            f"Which cluster? Give --config FILE, set PAXOS_CONFIG, or start me where {DEFAULT_FILE} is."
        )

    def config(self) -> Config:
        """The configuration; the program ends when it cannot be used."""
        return load_or_exit(self.config_path())

    def apis(self, config: Config) -> dict[NodeId, NodeApi]:
        """The pages of all nodes."""
        return apis_of(config, self.timeout_s)


def load_or_exit(path: Path) -> Config:
    """Read a configuration; when it cannot be used, print every problem on stderr and end the program."""
    try:
        return load(path)
    except ConfigError as error:
        exit_with_problems(error)


def exit_with_problems(error: ConfigError) -> NoReturn:
    """Print what is wrong, one problem a line, and end the program."""
    for problem in error.problems:
        click.echo(problem, err=True)
    raise SystemExit(EXIT_USAGE)


def chosen(config: Config, word: str) -> list[NodeId]:
    """The nodes that an argument means: an id, or "all".

    Raises:
        click.UsageError: there is no such node.
    """
    if word == "all":
        return list(config.members)
    if word.isdecimal() and int(word) in config.members:
        return [NodeId(int(word))]
    ids = ", ".join(map(str, config.members))
    raise click.UsageError(f"There is no node {word!r}; there are {ids}, and all.")


def fail(text: str, code: int = EXIT_FAILED) -> NoReturn:
    """Say why on stderr, in red on a terminal, and end the program."""
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.echo(click.style(text, fg="red") if color else text, err=True)
    raise SystemExit(code)


def print_json(value: Any) -> None:
    """Print a value as JSON; errors of nodes as their sentences."""

    def plain(other: Any) -> Any:
        return {"error": str(other)} if isinstance(other, NodeError) else str(other)

    text = msgspec.json.encode(value, enc_hook=plain)
    click.echo(json.dumps(json.loads(text), indent=2, ensure_ascii=False))


def per_node(results: Mapping[NodeId, Any | NodeError], said: Callable[[Any], str], *, is_json: bool) -> NoReturn:
    """Print what came of an order for each node, and end the program: with success if all obeyed."""
    if is_json:
        print_json({str(node): result for node, result in results.items()})
    else:
        console = Console(highlight=False)
        for node, result in results.items():
            if isinstance(result, NodeError):
                console.print(f"[red]✗[/red] node {node}: [red]{_escaped(str(result))}[/red]")
            else:
                console.print(f"[green]✓[/green] node {node}: {_escaped(said(result))}")
    raise SystemExit(EXIT_FAILED if any(isinstance(result, NodeError) for result in results.values()) else EXIT_OK)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
