"""`paxoscluster`: a whole cluster on this machine, to play with, to show, and to torture."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from paxos_twisted import __version__
from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.cluster.application_shows import SPELLINGS, auction, auction_steps, chat, chat_tests
from paxos_twisted.cluster.command_line import directory_option, f_option
from paxos_twisted.cluster.local import CONFIG, FROZEN, GONE, ClusterError, LocalCluster
from paxos_twisted.cluster.shows import course, demo, failover, soak
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.ctl.agreement import LEADERLESS
from paxos_twisted.ctl.command_line import EXIT_CODES, EXIT_FAILED, fail
from paxos_twisted.ctl.screens import cluster_screen
from paxos_twisted.node.config import ConfigError
from paxos_twisted.spellings import respell
from paxos_twisted.types import NodeId

BASE_PORT: Final = 7100
"""Ports that people remember, if they are free."""

REFRESH_S: Final = 0.25


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, "-V", "--version", prog_name="paxoscluster")
def cli() -> None:
    """A Paxos-Twisted cluster on this machine: real processes, real disks, one directory.

    \b
      paxoscluster demo                   watch a leader die
      paxoscluster up                     run a cluster until ctrl-C
      paxoscluster kill leader            ... and break it, from another terminal
      bankclient --config clusters/local/cluster.yml
    """


for command in (demo, soak, failover, course, chat, chat_tests, auction, auction_steps):
    cli.add_command(command)


def main() -> None:
    """The console script."""
    try:
        cli.main(respell(sys.argv[1:], SPELLINGS), prog_name="paxoscluster", standalone_mode=True)
    except (ClusterError, OSError) as error:
        fail(str(error))
    except ConfigError as error:
        fail("\n".join(error.problems), 2)


# A cluster to play with.


@cli.command(epilog=EXIT_CODES)
@f_option
@directory_option
@click.option("--engine", type=click.Choice(list(ENGINES)), default="multipaxos", show_default=True)
@click.option("--application", type=click.Choice(list(APPLICATIONS)), default="bank", show_default=True)
@click.option("--profile", type=click.Choice(["default", "lab"]), default="default", show_default=True)
@click.option("--detach", is_flag=True, help="Start the nodes and return; `down` stops them.")
def up(f: int, directory: Path, engine: str, application: str, profile: str, detach: bool) -> None:
    """Run a cluster. The first time it is made; later on it goes on with its data."""
    cluster = _made(directory, f, engine, application, profile, dies_with_us=not detach)
    running = cluster.alive()
    if running:
        raise ClusterError(f"nodes {_listed(running)} of {directory} run already; paxoscluster down stops them")
    console = Console(highlight=False)
    cluster.start()
    if detach:
        cluster.wait_ready()
        cluster.wait_served()
        console.print(cluster_screen(cluster.config.shared.cluster, cluster.statuses()))
        console.print(_hints(cluster, directory, "paxoscluster down stops it"))
        return
    with cluster:
        _run(cluster, directory, console)


def _made(directory: Path, f: int, engine: str, application: str, profile: str, *, dies_with_us: bool) -> LocalCluster:
    if not (directory / CONFIG).exists():
        return LocalCluster.create(
            directory,
            f,
            engine=engine,
            application=application,
            profile=profile,
            base_port=BASE_PORT,
            dies_with_us=dies_with_us,
        )
    cluster = LocalCluster(directory, dies_with_us=dies_with_us)
    source = click.get_current_context().get_parameter_source
    shared = cluster.config.shared
    asked = {"f": 2 * f + 1, "engine": engine, "application": application, "profile": profile}
    there = {
        "f": len(cluster.members),
        "engine": shared.engine,
        "application": shared.application,
        "profile": cluster.config.profile,
    }
    given = [name for name in asked if source(name) is click.core.ParameterSource.COMMANDLINE]
    if any(asked[name] != there[name] for name in given):
        raise ClusterError(
            f"{directory} holds a cluster of {len(cluster.members)} nodes with engine {shared.engine}, application "
            f"{shared.application} and profile {cluster.config.profile}; choose another --dir, or remove it"
        )
    return cluster


class _Stopped(BaseException):
    """Somebody wants us to stop."""


def _run(cluster: LocalCluster, directory: Path, console: Console) -> None:
    """Show the nodes until somebody stops us; then stop them in order."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    name = cluster.config.shared.cluster
    hints = _hints(cluster, directory, "ctrl-C stops it")
    try:
        if not console.is_terminal:
            cluster.wait_ready()
            cluster.wait_served()
            console.print(cluster_screen(name, cluster.statuses()))
            console.print(hints)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                cluster.start_wanted()
                if console.is_terminal:
                    screen = cluster_screen(name, cluster.statuses(), _states(cluster))
                    live.update(Group(screen, hints), refresh=True)
                time.sleep(REFRESH_S)
    except _Stopped:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # a second ctrl-C ends us, and with us the nodes
        console.print(Text("stopping ...", "dim"))
        late = cluster.stop(*cluster.members)
        console.print(Text(f"killed: nodes {_listed(late)}" if late else "all nodes have stopped", "dim"))


@cli.command(epilog=EXIT_CODES)
@directory_option
def status(directory: Path) -> None:
    """Show the nodes and their processes."""
    cluster = LocalCluster(directory)
    Console(highlight=False).print(cluster_screen(cluster.config.shared.cluster, cluster.statuses(), _states(cluster)))


@cli.command(epilog=EXIT_CODES)
@click.argument("nodes", nargs=-1, required=True, metavar="ID|leader|all …")
@directory_option
def kill(nodes: tuple[str, ...], directory: Path) -> None:
    """kill -9: as a crash would."""
    cluster = LocalCluster(directory)
    _said("killed", cluster.kill(*_meant(cluster, nodes)))


@cli.command(epilog=EXIT_CODES)
@click.argument("nodes", nargs=-1, required=True, metavar="ID|leader|all …")
@directory_option
def freeze(nodes: tuple[str, ...], directory: Path) -> None:
    """SIGSTOP: sockets stay open, nobody answers. `thaw` ends it."""
    cluster = LocalCluster(directory)
    _said("frozen", cluster.freeze(*_meant(cluster, nodes)))


@cli.command(epilog=EXIT_CODES)
@click.argument("nodes", nargs=-1, metavar="[ID|all] …")
@directory_option
def thaw(nodes: tuple[str, ...], directory: Path) -> None:
    """SIGCONT: let frozen nodes (all, if none is named) go on."""
    cluster = LocalCluster(directory)
    frozen = [node for node in _meant(cluster, nodes or ("all",)) if cluster.state(node) == FROZEN]
    _said("thawed", cluster.thaw(*frozen))


@cli.command(epilog=EXIT_CODES)
@click.argument("nodes", nargs=-1, required=True, metavar="ID|leader|all …")
@directory_option
@click.option("--kill", "is_crash", is_flag=True, help="With kill -9 instead of a clean stop.")
def restart(nodes: tuple[str, ...], directory: Path, is_crash: bool) -> None:
    """Stop nodes and start them again, one after the other. Dead ones are started."""
    cluster = LocalCluster(directory, dies_with_us=False)
    for node in _meant(cluster, nodes):
        cluster.kill(node) if is_crash else cluster.stop(node)
        cluster.request_start(node)
        _wait_started(cluster, node)
        cluster.wait_ready(node)
        click.echo(f"node {node} runs again")


def _wait_started(cluster: LocalCluster, node: NodeId) -> None:
    """The runner starts it, if there is one."""
    for _ in range(100):
        if cluster.state(node) != GONE:
            return
        time.sleep(0.05)
    raise ClusterError(f"node {node} was not started by the paxoscluster in the foreground")


@cli.command(epilog=EXIT_CODES)
@directory_option
def down(directory: Path) -> None:
    """Stop all nodes of a detached cluster, and nothing else. Their data stays."""
    cluster = LocalCluster(directory)
    hit = cluster.alive()
    if not hit:
        click.echo("no node runs")
        return
    late = cluster.stop(*cluster.members)
    if len(late) < len(hit):
        _said("stopped", [node for node in hit if node not in late])
    if late:
        _said("killed, because they did not stop:", late)


# Inside.


def _meant(cluster: LocalCluster, words: tuple[str, ...]) -> list[NodeId]:
    """The nodes that ids, "leader" and "all" mean."""
    nodes: list[NodeId] = []
    for word in words:
        if word == "all":
            nodes += cluster.members
        elif word == "leader":
            nodes.append(cluster.leader(5.0))
        elif word.isdecimal() and int(word) in cluster.members:
            nodes.append(NodeId(int(word)))
        else:
            ids = ", ".join(map(str, cluster.members))
            raise click.UsageError(f"There is no node {word!r}; there are {ids}, leader and all.")
    return list(dict.fromkeys(nodes))


def _states(cluster: LocalCluster) -> dict[NodeId, str]:
    return {node: cluster.state(node) for node in cluster.members}


def _said(what: str, nodes: list[NodeId]) -> None:
    if not nodes:
        fail(f"no node was {what}", EXIT_FAILED)
    click.echo(f"{what}: node{'s' * (len(nodes) > 1)} {_listed(nodes)}")


def _listed(nodes: list[NodeId]) -> str:
    return ", ".join(map(str, nodes))


def _hints(cluster: LocalCluster, directory: Path, last: str) -> Text:
    shared = cluster.config.shared
    victim = cluster.members[0] if shared.engine in LEADERLESS else "leader"
    client = f"{shared.application}client"
    return Text(f" {client} --config {directory / CONFIG}\n paxoscluster kill {victim}\n {last}", "dim")
