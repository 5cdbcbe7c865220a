"""The commands of paxoscluster about chats and auctions: all-in-one runs, and the experiments of our sources."""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from paxos_twisted.cluster.auction_run import AuctionOutcome, Step, run_auction, run_steps
from paxos_twisted.cluster.chat_run import Outcome, Plan, clients_needed, run_chat, standard_plans
from paxos_twisted.cluster.command_line import f_option
from paxos_twisted.cluster.local import CONFIG
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.ctl.command_line import EXIT_CODES, EXIT_OK, EXIT_VIOLATION
from paxos_twisted.node.config import load
from paxos_twisted.spellings import Spelling

SPELLINGS: Final = {
    "-c": Spelling("--config"),
    "-loss": Spelling("--loss"),
    "-timeout": Spelling("--timeout", unit="s"),
    "-skip_slots": Spelling("--skip-slots"),
    "-client_n": Spelling("--clients"),
}
"""Options of the all-in-one run as the chat's text writes them. [CH-23]"""

_DURATION = re.compile(r"\d+(\.\d+)?(ms|s)")

# These runs are about primaries that die: a leaderless engine has none. (paxoscluster soak breaks that one.)
WITH_A_PRIMARY: Final = [name for name in ENGINES if name != "epaxos"]

_engine = click.option("--engine", type=click.Choice(WITH_A_PRIMARY), default="multipaxos", show_default=True)
_json = click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
_dir = click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here."
)


@contextlib.contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    """The directory that was named, or one that is gone afterwards."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    made = Path(tempfile.mkdtemp(prefix="paxos-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


# Chat


@click.command(epilog=EXIT_CODES)
@f_option
@click.option("--clients", type=click.IntRange(1, 64), default=3, show_default=True, help="Clients that talk.")
@click.option("-n", "--messages", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Per client.")
@click.option(
    "--kills", type=click.IntRange(0, 4), default=0, show_default=True, help="Times that the primary is killed."
)
@click.option(
    "--loss", type=click.FloatRange(0, 0.5), default=0.0, help="Share of messages that is lost, 0.05 for 5 %."
)
@click.option("--timeout", help="A client's patience with a silent node, e.g. 400ms.")
@click.option("--skip-slots", help="Slots that the initial leader leaves out, e.g. 4,7; it is killed afterwards.")
@click.option(
    "--config", "config", type=click.Path(dir_okay=False, path_type=Path), help="Write the configuration here."
)
@_engine
@_dir
@_json
def chat(
    f: int,
    clients: int,
    messages: int,
    kills: int,
    loss: float,
    timeout: str | None,
    skip_slots: str | None,
    config: Path | None,
    engine: str,
    directory: Path | None,
    output: str,
) -> None:
    """Run a chat, and compare all logs.

    All in one: makes a configuration, starts 2f+1 replicas, runs clients in automatic mode, kills the primary if asked.
    """
    skips = _slots(skip_slots)
    if timeout is not None and not _DURATION.fullmatch(timeout):
        raise click.UsageError(f"--timeout: {timeout!r} is not a duration; write 400ms or 1s")
    if kills > f:
        raise click.UsageError(f"--kills: {kills} dead replicas of {2 * f + 1} leave no majority; -f {kills} would do")
    if skips and clients < clients_needed(skips):
        raise click.UsageError(
            f"--skip-slots: with {clients} clients, each of which waits for its answer, nothing would come behind slot "
            f"{max(skips)}; say --clients {clients_needed(skips)}"
        )
    if skips and kills != 1:
        kills = 1  # whoever skipped them must go, or nothing behind them is ever applied
    plan = Plan(
        name="chat",
        f=f,
        clients=clients,
        messages=messages,
        kills=kills,
        loss=loss,
        timeout=timeout or "",
        skip_slots=skips,
        engine=engine,
    )
    with _place(directory) as place:
        outcome = run_chat(plan, place, tell=lambda text: click.echo(text, err=True))
        if config is not None:
            config.write_text(load(place / CONFIG).effective(), encoding="utf-8")
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode())
    else:
        _print_chat(outcome, Console(highlight=False))
    raise SystemExit(EXIT_OK if outcome.passed else EXIT_VIOLATION)


@click.command("chat-tests", epilog=EXIT_CODES)
@click.option("-n", "--messages", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Per client.")
@click.option("--clients", type=click.IntRange(1, 64), default=3, show_default=True)
@click.option("--only", type=click.IntRange(1, 5), multiple=True, help="Only these of the five; may be repeated.")
@_dir
@_json
def chat_tests(messages: int, clients: int, only: tuple[int, ...], directory: Path | None, output: str) -> None:
    """Play the five experiments of the chat's text.

    Each on a cluster of its own, with the logs of all replicas compared.

    1 normal operation for f = 1, 2, 3; 2 the primary dies; 3 it dies f times; 4 skipped slots become no-ops in every
    log; 5 with 1, 5, 10 and 20 % of all messages lost, between replicas and to clients, the system stays live.
    """
    outcomes = []
    console = Console(highlight=False)
    plans = [plan for plan in standard_plans(messages, clients) if not only or int(plan.name[0]) in only]
    with _place(directory) as place:
        for number, plan in enumerate(plans):
            outcome = run_chat(plan, place / f"run-{number}", tell=lambda text: click.echo(f"  {text}", err=True))
            outcomes.append(outcome)
            if output == "table":
                _print_chat(outcome, console)
    if output == "json":
        click.echo(json.dumps({"passed": all(one.passed for one in outcomes), "runs": msgspec.to_builtins(outcomes)}))
    else:
        passed = sum(outcome.passed for outcome in outcomes)
        console.print(Text(f"{passed} of {len(outcomes)} experiments passed", "bold"))
    raise SystemExit(EXIT_OK if all(outcome.passed for outcome in outcomes) else EXIT_VIOLATION)


def _print_chat(outcome: Outcome, console: Console) -> None:
    verdict = Text("passed", "bold green") if outcome.passed else Text("FAILED", "bold red")
    console.print(Text.assemble((outcome.plan.name, "bold"), ": ", verdict))
    console.print(
        f"  {outcome.answered} of {outcome.asked} messages answered in {outcome.seconds:.1f} s, "
        f"primaries {' -> '.join(map(str, outcome.primaries))}, clients moved {outcome.reconnects} times"
    )
    for log in outcome.logs:
        state = "alive" if log.is_alive else "killed"
        noops = f", no-ops in {', '.join(map(str, log.noops))}" if log.noops else ""
        console.print(f"  replica {log.node} (pid {log.pid}, {state}): {log.slots} slots{noops}; its log ends with")
        for line in log.tail:
            console.print(Text(f"      {line}", "dim"), no_wrap=True, overflow="ellipsis")
    for finding in outcome.findings:
        console.print(Text(f"  {finding}", "red"))


def _slots(text: str | None) -> tuple[int, ...]:
    if not text:
        return ()
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text):
        raise click.UsageError(f"--skip-slots: {text!r} are no slots; write 4,7,8")
    return tuple(sorted({int(word) for word in text.split(",")}))


# Auctions


@click.command(epilog=EXIT_CODES)
@f_option
@click.option("--bidders", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=45.0, show_default=True, help="How long it is open.")
@click.option(
    "--kills", type=click.IntRange(0, 20), default=2, show_default=True, help="Times that the primary is killed."
)
@click.option(
    "--every", type=click.IntRange(1), default=500, show_default=True, help="Milliseconds between a bidder's bids."
)
@click.option(
    "--answer-delay",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="Milliseconds that a bid waits for its acknowledgement.",
)
@_engine
@_dir
@_json
def auction(
    f: int,
    bidders: int,
    seconds: float,
    kills: int,
    every: int,
    answer_delay: int,
    engine: str,
    directory: Path | None,
    output: str,
) -> None:
    """Run an auction whose primary is killed.

    No acknowledged bid is lost; there is one winner, the same at every replica.
    """
    with _place(directory) as place:
        outcome = run_auction(
            place,
            f=f,
            engine=engine,
            bidders=bidders,
            duration_s=seconds,
            kills=kills,
            every_ms=every,
            answer_delay_ms=answer_delay,
            tell=lambda text: click.echo(text, err=True),
        )
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode())
    else:
        _print_auction(outcome, Console(highlight=False))
    raise SystemExit(EXIT_OK if outcome.passed else EXIT_VIOLATION)


@click.command("auction-steps", epilog=EXIT_CODES)
@_engine
@_dir
@_json
def auction_steps(engine: str, directory: Path | None, output: str) -> None:
    """Play the twelve steps of the auction's text.

    Bids, a crash, a lower bid at the new leader, the end, the winner.
    """
    console = Console(highlight=False)

    def tell(step: Step) -> None:
        if output == "table":
            mark = Text("ok  ", "green") if step.passed else Text("FAIL", "bold red")
            console.print(
                Text.assemble(f"{step.number:>2} ", mark, f" {step.what}: ", (step.said, "cyan")), soft_wrap=True
            )

    with _place(directory) as place:
        steps = run_steps(place, engine=engine, tell=tell)
    passed = all(step.passed for step in steps)
    if output == "json":
        lines = [msgspec.to_builtins(step) | {"passed": step.passed} for step in steps]
        click.echo(json.dumps({"passed": passed, "steps": lines}, indent=2))
    raise SystemExit(EXIT_OK if passed else EXIT_VIOLATION)


def _print_auction(outcome: AuctionOutcome, console: Console) -> None:
    told = outcome.report
    verdict = Text("passed", "bold green") if outcome.passed else Text("FAILED", "bold red")
    console.print(Text.assemble(("auction", "bold"), ": ", verdict))
    if told:
        console.print(
            f"  won by {told['winner']} with {told['highest']}, after {(told['ended'] - told['started']) / 1000:g} s"
        )
        console.print(
            f"  {told['bidders']} bidders made {told['bids']} bids: {told['success']} succeeded, "
            f"{told['fail']} failed, {told['unknown']} without an answer; they changed nodes {told['reconnects']} times"
        )
    console.print(f"  primaries killed: {', '.join(map(str, outcome.killed)) or 'none'}")
    for replica in outcome.replicas:
        console.print(f"  replica {replica.node} alone says: {replica.kind}, {replica.highest} by {replica.bidder}")
    for finding in outcome.findings:
        console.print(Text(f"  {finding}", "red"))
