"""`paxosctl`: look at a cluster, check it, give it orders, break it on purpose."""

import time
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from paxos_twisted import __version__
from paxos_twisted.check.command import check_history_command
from paxos_twisted.ctl.agreement import Statuses, Verdict, judge, verdict_of, wait_until_quiet
from paxos_twisted.ctl.command_line import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNKNOWN,
    EXIT_VIOLATION,
    DurationType,
    Settings,
    chosen,
    fail,
    options,
    per_node,
    print_json,
)
from paxos_twisted.ctl.config_commands import config_group, init
from paxos_twisted.ctl.events import collect, merged, table
from paxos_twisted.ctl.node_api import NodeApi, NodeError, NodeStatus, all_statuses, ask_all, who_leads
from paxos_twisted.ctl.screens import MARKS, checks_table, cluster_screen
from paxos_twisted.grade.command import grade_command
from paxos_twisted.types import NodeId

POLL_S = 0.05
MOVE_S = 10.0
"""A handover takes a fraction of a second."""

EXIT_OF_VERDICT = {Verdict.OK: EXIT_OK, Verdict.VIOLATION: EXIT_VIOLATION, Verdict.UNKNOWN: EXIT_UNKNOWN}


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@options
@click.version_option(__version__, "-V", "--version", prog_name="paxosctl")
@click.pass_context
def cli(ctx: click.Context, /, **given: Any) -> None:
    """Look at a Paxos-Twisted cluster, check it, give it orders.

    Results go to stdout, everything else to stderr. NO_COLOR is honoured.
    """
    ctx.obj = Settings().take(**given)


def main() -> None:
    """The console script."""
    cli.main(prog_name="paxosctl")


cli.add_command(check_history_command)
cli.add_command(config_group)
cli.add_command(grade_command)
cli.add_command(init)


@cli.command(epilog=EXIT_CODES)
@click.option("--watch", is_flag=True, help="Show it again and again, until ctrl-C.")
@click.option("--interval", type=DurationType(), default="500ms", show_default=True, help="Between two looks.")
@options
@click.pass_obj
def status(settings: Settings, /, watch: bool, interval: float, **given: Any) -> None:
    """Show all nodes.

    Role, round, how many slots are decided, peers and the longest round trip, disk, sessions, state hash.
    """
    config = settings.take(**given).config()
    apis = settings.apis(config)
    name = config.shared.cluster
    if watch:
        if settings.is_json:
            raise click.UsageError("--watch shows a table; for programs, call me again and again")
        _watch(name, apis, interval)
        return
    statuses = all_statuses(apis)
    if settings.is_json:
        print_json({"cluster": name, "leader": who_leads(statuses.values()), "nodes": _by_id(statuses)})
    else:
        Console(highlight=False).print(cluster_screen(name, statuses))
    raise SystemExit(EXIT_UNKNOWN if any(isinstance(seen, NodeError) for seen in statuses.values()) else EXIT_OK)


def _watch(name: str, apis: dict[NodeId, NodeApi], interval: float) -> None:
    with Live(console=Console(highlight=False), auto_refresh=False, screen=False) as live:
        try:
            while True:
                live.update(cluster_screen(name, all_statuses(apis)), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return


@cli.command(epilog=EXIT_CODES)
@click.option("--move", is_flag=True, help="Ask the leader to hand over to another node, and wait until one leads.")
@options
@click.pass_obj
def leader(settings: Settings, /, move: bool, **given: Any) -> None:
    """Print who leads."""
    config = settings.take(**given).config()
    apis = settings.apis(config)
    statuses = all_statuses(apis)
    leading = who_leads(statuses.values())
    if leading is None:
        why = "; ".join(f"node {node}: {seen}" for node, seen in statuses.items() if isinstance(seen, NodeError))
        fail("nobody leads" + (f" ({why})" if why else ""), EXIT_UNKNOWN)
    before = None
    if move:
        before = leading
        try:
            apis[leading].order("handover", {})
        except NodeError as error:
            fail(f"node {leading}: {error}")
        statuses, leading = _until_another_leads(apis, before)
    seen = statuses[leading]
    assert isinstance(seen, NodeStatus)
    address = config.addresses[leading]
    if settings.is_json:
        print_json({"leader": leading, "address": address, "round": seen.round, "before": before})
    else:
        was = f" (it was node {before})" if before is not None else ""
        click.echo(f"node {leading} at {address} leads in round {seen.round}{was}")


def _until_another_leads(
    apis: dict[NodeId, NodeApi], before: NodeId
) -> tuple[dict[NodeId, NodeStatus | NodeError], NodeId]:
    deadline = time.monotonic() + MOVE_S
    while time.monotonic() < deadline:
        statuses = all_statuses(apis)
        leading = who_leads(statuses.values())
        if leading is not None and leading != before:
            return statuses, leading
        time.sleep(POLL_S)
    return fail(f"node {before} was asked to hand over, but no other node leads after {MOVE_S:g} s", EXIT_UNKNOWN)


@cli.command(epilog=EXIT_CODES)
@options
@click.pass_obj
def events(settings: Settings, /, **given: Any) -> None:
    """Show the last changes of leader and links of all nodes.

    They stand on one clock. Each node remembers its own with exact times; the differences between the machines' clocks
    are measured and taken into account.
    """
    config = settings.take(**given).config()
    collected = collect(settings.apis(config))
    if settings.is_json:
        print_json(collected)
    else:
        Console(highlight=False).print(table(merged(collected), collected))
        for node, error in collected.errors.items():
            click.echo(f"node {node}: {error}", err=True)
    raise SystemExit(EXIT_UNKNOWN if collected.errors else EXIT_OK)


@cli.command(epilog=EXIT_CODES)
@click.argument("node", default="all")
@click.option("--wait", type=DurationType(), default="30s", show_default=True, help="For the snapshot to be durable.")
@options
@click.pass_obj
def snapshot(settings: Settings, /, node: str, wait: float, **given: Any) -> None:
    """Let nodes take a snapshot now.

    NODE is an id, or all. Waits until it is on disk.
    """
    config = settings.take(**given).config()
    apis = settings.apis(config)

    def take(api: NodeApi) -> int:
        asked = _number(api.order("snapshot", {}), "slot")
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            newest = api.status().snapshot
            if asked < 0 or (newest is not None and newest.slot >= asked):
                return newest.slot if newest is not None else -1
            time.sleep(POLL_S)
        raise NodeError(f"no snapshot of slot {asked} after {wait:g} s")

    def said(slot: int) -> str:
        return f"snapshot after slot {slot}" if slot >= 0 else "nothing was applied yet: nothing to take"

    per_node(ask_all([apis[one] for one in chosen(config, node)], take), said, is_json=settings.is_json)


@cli.command(epilog=EXIT_CODES)
@click.option("--wait", type=DurationType(), default="10s", show_default=True, help="For the cluster to be quiet.")
@options
@click.pass_obj
def verify(settings: Settings, /, wait: float, **given: Any) -> None:
    """Check that all nodes agree.

    Same slots, same state hash, every slot accounted for. Waits until nothing is under way; a cluster that clients keep
    busy cannot be compared (exit code 4).
    """
    config = settings.take(**given).config()
    statuses, quiet = wait_until_quiet(settings.apis(config), wait)
    checks = judge(statuses)
    verdict = verdict_of(checks)
    if not quiet and verdict is Verdict.OK:
        verdict = Verdict.UNKNOWN
    if settings.is_json:
        print_json({"verdict": verdict.value, "quiet": quiet, "checks": checks, "nodes": _by_id(statuses)})
    else:
        console = Console(highlight=False)
        console.print(checks_table(checks))
        mark, style = MARKS[verdict]
        words = {
            Verdict.OK: "all nodes agree",
            Verdict.VIOLATION: "the nodes do NOT agree",
            Verdict.UNKNOWN: "cannot be told: " + _why_unknown(statuses, wait),
        }
        console.print(Text.assemble("\n", (f"{mark} {words[verdict]}", f"bold {style}")))
    raise SystemExit(EXIT_OF_VERDICT[verdict])


def _why_unknown(statuses: Statuses, wait: float) -> str:
    if any(isinstance(seen, NodeError) for seen in statuses.values()):
        return "not all nodes answer"
    return f"the cluster was not quiet within {wait:g} s"


@cli.command(epilog=EXIT_CODES)
@click.argument("node")
@click.argument("action", type=click.Choice(["show", "set", "clear"]))
@click.argument("rules", nargs=-1, metavar="[RULE]…")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the dice.")
@options
@click.pass_obj
def fault(settings: Settings, /, node: str, action: str, rules: tuple[str, ...], seed: int, **given: Any) -> None:
    """Let messages be lost or late.

    Or doubled, or reordered; those of NODE (an id, or all). Off by default.

    \b
      paxosctl fault all set "*->* delay=20ms jitter=5ms"
      paxosctl fault 1 set "1<->* partition"
      paxosctl fault 1 set "1->2 loss=0.2" "1->3 kinds=Accept,Learn pause=2s"
      paxosctl fault all clear

    A rule is SRC->DST or SRC<->DST (ids or *) and words: partition, loss=, delay=, jitter=, duplicate=, reorder=,
    pause=, kinds=. A node applies rules to what it sends; of what it receives it drops what a partition cuts.
    """
    config = settings.take(**given).config()
    apis = settings.apis(config)
    nodes = [apis[one] for one in chosen(config, node)]
    if (action == "set") != bool(rules):
        raise click.UsageError("set needs at least one RULE, show and clear take none")
    if action == "show":
        per_node(ask_all(nodes, lambda api: api.status().faults or []), _rules, is_json=settings.is_json)
    order = {"seed": seed, "rules": list(rules)}
    per_node(ask_all(nodes, lambda api: api.order("fault", order)), _set_rules, is_json=settings.is_json)


@cli.command(epilog=EXIT_CODES)
@click.argument("node")
@click.option("--match", default="", help="Only the lines that hold this text.")
@options
@click.pass_obj
def metrics(settings: Settings, /, node: str, match: str, **given: Any) -> None:
    """Print the metrics of a node.

    NODE is its id. As Prometheus reads them.
    """
    config = settings.take(**given).config()
    if node == "all":
        raise click.UsageError("metrics are those of one node")
    (one,) = chosen(config, node)
    try:
        text = settings.apis(config)[one].metrics()
    except NodeError as error:
        fail(f"node {one}: {error}", EXIT_UNKNOWN)
    lines = [line for line in text.splitlines() if match in line]
    if not lines:
        fail(f"node {one} has no metric that holds {match!r}", EXIT_FAILED)
    click.echo("\n".join(lines))


def _rules(rules: list[str]) -> str:
    return "; ".join(rules) if rules else "no message faults"


def _set_rules(answer: Any) -> str:
    rules = answer.get("rules") if isinstance(answer, dict) else None
    return f"{'; '.join(rules)} (seed {answer.get('seed')})" if rules else "no message faults"


def _number(answer: Any, key: str) -> int:
    value = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(value, int):
        raise NodeError(f"the node's answer has no {key}: {answer!r}")
    return value


def _by_id(statuses: Any) -> dict[str, NodeStatus | NodeError]:
    return {str(node): seen for node, seen in statuses.items()}
