"""The command line of a node: `twistd -n paxosnode …`, or `paxosnode …`, which is the same in the foreground.

Everything that can be wrong is found before the reactor runs. A wrong command line is a `UsageError` (twistd prints it
under its help and exits with 1, paxosnode exits with 2); a configuration that cannot be used is written to stderr, one
problem a line, and both exit with 2.
"""
# mypy: disallow-untyped-calls=False
# (twisted.application and twisted.python.usage have few annotations)

import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from twisted.application.service import Service
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.runtime import platform
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]  # exported on each platform

import paxos_twisted
from paxos_twisted.node import logs, message_trace
from paxos_twisted.node.config import Config, ConfigError, load
from paxos_twisted.node.extras import NO_EXTRAS, Extras, check_skip_slots, parse_slots
from paxos_twisted.node.quantities import Address, parse_address, parse_duration
from paxos_twisted.spellings import Spelling, respell
from paxos_twisted.types import NodeId

DESCRIPTION = "A replica of a Paxos-Twisted cluster."

SPELLINGS = {
    "-uid": Spelling("--uid"),
    "-port": Spelling("--port"),
    "-skip_slots": Spelling("--skip-slots"),
    "-loss": Spelling("--loss"),
}
"""Options as the chat's and the auction's texts write them. (-c is understood anyway.)"""

EXIT_USAGE = 2
"""The command line or the configuration is wrong."""


class Options(usage.Options):
    """The options of one node. After parsing, `config` and `node_id` say what to run."""

    longdesc = (
        "Runs one replica of the cluster that the configuration file describes (docs/configuration.md). The first "
        "start of a node says --first-start, once. Environment: PAXOS_CONFIG and PAXOS_NODE_ID stand in for --config "
        "and --node-id."
    )

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The cluster's configuration, the same file for all nodes."],
        ["node-id", "i", None, "Which node of the configuration this one is."],
        [
            "uid",
            None,
            None,
            "Which node this one is, as the chat's text counts: 0 is the one with the highest id, which leads first.",
        ],
        ["port", None, None, "Which node this one is, by the port of its address, as the auction's text does."],
        ["data-dir", "d", None, "Keep the data here, instead of where the configuration says."],
        ["listen", None, None, "Listen on this host:port (e.g. 0.0.0.0:7101), but be known by the configured address."],
        ["http", None, None, "Answer HTTP on this host:port, instead of the configured one."],
        [
            "service",
            None,
            None,
            "While this node leads, listen for clients on this host:port too (docs/front-doors.md).",
        ],
        ["on-lead", None, None, "Run this shell command when this node begins to lead, e.g. to move an address here."],
        ["on-follow", None, None, "Run this shell command when this node leads no more."],
        ["answer-delay", None, None, "Let bidders wait so long for the answer to a bid, e.g. 100ms (auctions)."],
        ["applied-log", None, None, "Write every command that is applied into this file, one JSON object a line."],
        ["trace", None, "off", "Log each message between nodes: its kind and receivers, or its attributes, too."],
        ["loss", None, None, "For tests: share of this node's messages to other nodes that is lost, 0.05 for 5 %."],
        ["skip-slots", None, None, "For tests: slots that the initial leader of a new cluster leaves out, e.g. 1,2,3."],
        ["log-level", None, "info", f"Log from this level on: {', '.join(logs.LEVELS)}."],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["check", None, "Print the effective configuration and exit with 0, or what is wrong with it and exit with 2."],
        ["first-start", None, "Make the data directory of a node that has never run before, then start."],
        ["json-log", None, "Log one JSON object a line."],
        ["stock", None, "Use Twisted's own reactor and transports instead of our faster ones."],
    ]
    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.yml"),
            "data-dir": usage.CompleteDirs(),
            "log-level": usage.CompleteList(logs.LEVELS),
        }
    )

    environ: ClassVar[Mapping[str, str]] = os.environ

    config: Config
    """The configuration, with what the command line says about this node."""
    node_id: NodeId | None
    """None only with --check."""
    extras: Extras = NO_EXTRAS

    def getSynopsis(self) -> str:
        """The first line of the help."""
        if isinstance(self.parent, _Foreground):
            return "Usage: paxosnode [options]"
        return str(super().getSynopsis())

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"paxosnode {paxos_twisted.__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Check everything.

        Raises:
            UsageError: the command line is wrong.
            SystemExit: after --check, or when the configuration cannot be used (its problems are on stderr).
        """
        if not __debug__:
            raise usage.UsageError("a node does not run under python -O: it relies on its assertions")
        path = self["config"] or self.environ.get("PAXOS_CONFIG")
        if not path:
            raise usage.UsageError("which configuration? Say --config FILE, or set PAXOS_CONFIG")
        self.node_id = self._given_node_id()
        listen, http = self._given_address("listen"), self._given_address("http")
        if self["log-level"] not in logs.LEVELS:
            raise usage.UsageError(f'--log-level: "{self["log-level"]}" is none of {", ".join(logs.LEVELS)}')
        try:
            self.config = load(path)
            self.extras = self._given_extras()
            if self.node_id is not None:
                data_dir = Path(self["data-dir"]) if self["data-dir"] else None
                self.config = self.config.with_node(self.node_id, data_dir=data_dir, listen=listen, http=http)
                self.config.check_node(self.node_id)
                if not self["check"]:
                    self._check_first_start(self.node_id)
        except ConfigError as error:
            _exit(error.problems)
        for warning in self.config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if self["check"]:
            sys.stdout.write(self.config.effective(self.node_id))
            raise SystemExit(0)
        self._choose_log()

    def _given_node_id(self) -> NodeId | None:
        if self["uid"] or self["port"]:
            return self._named_otherwise()
        text = self["node-id"] or self.environ.get("PAXOS_NODE_ID")
        if not text:
            if not self["check"]:
                raise usage.UsageError("which node? Say --node-id N, or set PAXOS_NODE_ID")
            for option in ("data-dir", "listen", "http"):
                if self[option]:
                    raise usage.UsageError(f"--{option} belongs to one node: say --node-id N too")
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise usage.UsageError(f'--node-id: "{text}" is not a number')
        return NodeId(int(text))

    def _named_otherwise(self) -> NodeId:
        option, text = ("uid", self["uid"]) if self["uid"] else ("port", self["port"])
        if self["node-id"] or (self["uid"] and self["port"]):
            raise usage.UsageError("--node-id, --uid and --port name the same thing: say one of them")
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise usage.UsageError(f'--{option}: "{text}" is not a number')
        try:
            nodes = load(self["config"] or self.environ["PAXOS_CONFIG"]).nodes
        except ConfigError as error:
            _exit(error.problems)
        if option == "uid":
            found = [node.id for uid, node in enumerate(reversed(nodes)) if uid == int(text)]
            known = f"0 to {len(nodes) - 1}"
        else:
            found = [node.id for node in nodes if node.address.port == int(text)]
            known = ", ".join(str(node.address.port) for node in nodes)
        if len(found) != 1:
            raise usage.UsageError(f"--{option}: {text} names no node, or several; there are {known}")
        return found[0]

    def _given_extras(self) -> Extras:
        skips: frozenset[int] = frozenset()
        try:
            delay = parse_duration(self["answer-delay"]) if self["answer-delay"] else 0
            loss = float(self["loss"] or 0)
            if not 0 <= loss < 1:
                raise ValueError(f"{self['loss']} is no share of messages; write 0.05 for 5 %")
            if self["trace"] not in message_trace.LEVELS:
                raise ValueError(f'--trace: "{self["trace"]}" is none of {", ".join(message_trace.LEVELS)}')
            if self["skip-slots"]:
                skips = parse_slots(self["skip-slots"])
                if self.node_id is not None:
                    check_skip_slots(self.config.shared.engine, self.config.members, self.node_id)
        except ValueError as error:
            raise usage.UsageError(str(error)) from error
        return Extras(
            service=self._given_address("service"),
            on_lead=self["on-lead"] or "",
            on_follow=self["on-follow"] or "",
            applied_log=Path(self["applied-log"]) if self["applied-log"] else None,
            trace=self["trace"],
            answer_delay_ms=delay,
            loss=loss,
            skip_slots=skips,
        )

    def _given_address(self, option: str) -> Address | None:
        try:
            return parse_address(self[option]) if self[option] else None
        except ValueError as error:
            raise usage.UsageError(f"--{option}: {error}") from error

    def _check_first_start(self, node_id: NodeId) -> None:
        """A node that starts with an empty disk has forgotten its promises, so that is never done by accident.
        [protocol-rules 2.9, rule 53]"""
        folder = self.config.node(node_id).data_dir
        found = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        command = f"paxosnode --config {self.config.path} --node-id {node_id}"
        if self["data-dir"]:
            command += f" --data-dir {folder}"
        if not found and not self["first-start"]:
            raise ConfigError(
                [
                    f"{self.config.path}: node {node_id} has no data in {folder}. If it has never run before, type: "
                    f"{command} --first-start",
                    "If it has run before, its disk is lost and with it what it has promised: do not start it so.",
                ]
            )
        if found and self["first-start"]:
            raise ConfigError(
                [
                    f"{self.config.path}: --first-start, but node {node_id} has data in {folder} "
                    f"({', '.join(found[:5])}). To go on with it, type: {command}"
                ]
            )

    def _choose_log(self) -> None:
        """Let our observer write the log, unless twistd was told where to log or runs as a daemon."""
        _log_choice.update(node=self.node_id, level=self["log-level"], as_json=bool(self["json-log"]))
        twistd = self.parent
        if twistd is not None and twistd.get("nodaemon"):
            if not any(twistd.get(option) for option in ("logger", "logfile", "syslog")):
                twistd["logger"] = f"{log_observer.__module__}.{log_observer.__name__}"
            elif self["json-log"]:
                raise usage.UsageError("--json-log does not go together with twistd's --logfile, --logger, --syslog")


_log_choice: dict[str, Any] = {"node": None}
"""twistd knows the observer by name and calls it without arguments; so what was chosen waits here."""


def log_observer() -> ILogObserver:
    """The observer that the options chose. Called by twistd when it begins to log."""
    return logs.observer(**_log_choice)  # type: ignore[return-value]  # mypy does not know zope's interfaces


def makeService(options: Options) -> Service:
    """The services of the node, for twistd.

    Raises:
        SystemExit: the data directory of a first start cannot be made; the reason is on stderr.
    """
    from twisted.internet import reactor  # noqa: PLC0415 (not before twistd has installed the one that was asked for)

    from paxos_twisted.node.service import make_node  # noqa: PLC0415 (the help works without it)
    from paxos_twisted.storage.errors import StoreError  # noqa: PLC0415

    assert options.node_id is not None
    try:
        return make_node(
            options.config,
            options.node_id,
            reactor=reactor,
            first_start=bool(options["first-start"]),
            direct=not options["stock"],
            extras=options.extras,
        )
    except (StoreError, OSError, sqlite3.Error) as error:
        _exit([f"node {options.node_id}: {error}"])


def _exit(problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


class _Foreground(ServerOptions):
    """twistd's options with one subcommand: ours."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, type[Options], str]]:
        self.loadedPlugins: dict[str, Any] = {"paxosnode": _Maker()}
        yield ("paxosnode", None, Options, DESCRIPTION)


class _Maker:
    """What twistd wants of a plugin."""

    tapname = "paxosnode"
    description = DESCRIPTION
    options = Options
    makeService = staticmethod(makeService)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: run a node in the foreground until SIGTERM or SIGINT."""
    given = sys.argv[1:] if arguments is None else arguments
    twistd = _Foreground()
    try:
        twistd.parseOptions(["--nodaemon", "--pidfile=", "paxosnode", *respell(given, SPELLINGS)])
    except usage.UsageError as error:
        print(f"paxosnode: {error}\nTry: paxosnode --help", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    if not twistd.subOptions["stock"] and platform.isLinux():
        from paxos_twisted.net import lean_reactor  # noqa: PLC0415 (only Linux has epoll)

        lean_reactor.install()
    runApp(twistd)
