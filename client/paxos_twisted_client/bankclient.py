"""`bankclient`: the bank's customers. Manual mode, single transactions, and the bench."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredList

from paxos_twisted import __version__
from paxos_twisted_client.bench import Bench, BenchPlan, Mark
from paxos_twisted_client.form import FIELDS, Form, FormError
from paxos_twisted_client.history import HistoryWriter
from paxos_twisted_client.limits import BENCH_CLIENTS_MAX, BENCH_REQUESTS_MAX, OUTSTANDING_MAX
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.settings import Settings, shared_options

APPLICATION = "bank"
INTERRUPTED = 130
PROGRESS_PERIOD_S = 0.1
OPENING_S = 2.0
"""How long the bench waits for connections before it begins without them."""

EXIT_CODES = """\b
Exit codes:
  0    done
  1    refused: by the bank, or by the cluster
  2    wrong arguments
  4    no answer in time, or the outcome is unknown
  130  interrupted
"""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@shared_options
@click.option("--bench", is_flag=True, help="Send many random transactions and measure.")
@click.option(
    "-n",
    "--requests",
    type=click.IntRange(1, BENCH_REQUESTS_MAX),
    default=500,
    show_default=True,
    help="Bench: transactions per client.",
)
@click.option(
    "--clients", type=click.IntRange(1, BENCH_CLIENTS_MAX), default=1, show_default=True, help="Bench: clients at once."
)
@click.option(
    "--outstanding",
    type=click.IntRange(1, OUTSTANDING_MAX),
    default=1,
    show_default=True,
    help="Bench: transactions that each client has under way.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Bench: transactions per second of all clients together, sent on time whether or not answers come "
    "(open loop).",
)
@click.option("--share", is_flag=True, help="Bench: all clients share one connection.")
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Bench: same seed, same transactions; else a random one.")
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path), help="Bench: record every call as JSON lines."
)
@click.option(
    "--progress/--no-progress", default=None, help="Bench: a live bar on stderr; else when stderr is a terminal."
)
@click.option(
    "--at",
    "ats",
    type=click.IntRange(0),
    multiple=True,
    metavar="K",
    help="Bench: once K transactions are answered, start the command of --run. Both may be repeated.",
)
@click.option("--run", "runs", multiple=True, metavar="COMMAND", help="Bench: the shell command for --at.")
@click.version_option(__version__, "-V", "--version", prog_name="bankclient")
@click.pass_context
def cli(ctx: click.Context, /, **given: Any) -> None:
    """Customers of the replicated bank.

    \b
      bankclient                          type transactions at a prompt
      bankclient deposit 17 100           one transaction
      bankclient --bench -n 500           500 random ones, with statistics

    The nodes are named by --nodes, by --config, or by PAXOS_NODES or PAXOS_CONFIG in the environment.
    Results go to stdout, everything else to stderr. NO_COLOR is honoured.
    """
    settings = Settings()
    settings.take({name: given.pop(name) for name in SHARED})
    ctx.obj = settings
    if ctx.invoked_subcommand is not None:
        if given["bench"]:
            raise click.UsageError(f"--bench and {ctx.invoked_subcommand} exclude each other")
        return
    if given["bench"]:
        _run_bench(settings, **given)
    else:
        _run_manual(settings)


SHARED = ("nodes", "config", "cluster", "output", "timeout", "dial_timeout", "read_timeout", "write_timeout")


def main() -> None:
    """The console script."""
    cli.main(prog_name="bankclient")


# One transaction.


def _one_shot(kind: str, summary: str) -> None:
    fields = FIELDS[kind]

    def command(settings: Settings, /, **given: Any) -> None:
        words = [given.pop(field) for field in fields]
        settings.take(given)
        try:
            form = Form.from_words([kind, *words])
        except FormError as error:
            raise click.UsageError(str(error)) from error
        _run_one(settings, form)

    command.__doc__ = summary
    function = click.pass_obj(shared_options(command))
    for field in reversed(fields):
        function = click.argument(field)(function)
    # Unknown options are let through as arguments: an amount may be negative (and the bank says what it thinks of it).
    cli.command(kind, context_settings={"ignore_unknown_options": True}, epilog=EXIT_CODES)(function)


_one_shot("balance", "Print what ACCOUNT holds.")
_one_shot("deposit", "Pay AMOUNT into ACCOUNT.")
_one_shot("withdraw", "Take AMOUNT out of ACCOUNT.")
_one_shot("transfer", "Move AMOUNT from ACCOUNT to the account TO: both sides, or neither.")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell, e.g. for ~/.bashrc: source <(bankclient completion bash)"""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "bankclient", "_BANKCLIENT_COMPLETE").source())


def _run_one(settings: Settings, form: Form) -> None:
    import json  # noqa: PLC0415 - only here

    from paxos_twisted_client.teller import EXIT_OK, Teller, as_json, exit_code, sentence  # noqa: PLC0415

    is_json = settings.is_json
    pool_of = _pool_maker(settings)

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)
        request = await Teller(pool).execute(form.op())
        leader = pool.leader
        await pool.close()
        code = exit_code(request)
        if is_json:
            click.echo(json.dumps(as_json(request, leader)))
        elif code == EXIT_OK:
            click.echo(sentence(request))
        else:
            click.echo(click.style(sentence(request), fg="red"), err=True, color=_color(sys.stderr))
        return code

    _react(run)


# The prompt.


def _run_manual(settings: Settings) -> None:
    from paxos_twisted_client.manual import COMMANDS, Manual  # noqa: PLC0415 - the prompt is heavy
    from paxos_twisted_client.terminal import PipeTerminal, PromptTerminal, Terminal  # noqa: PLC0415

    is_json = settings.is_json
    is_tty = sys.stdin.isatty() and sys.stdout.isatty()
    pool_of = _pool_maker(settings)
    if is_tty:
        from twisted.internet import asyncioreactor  # noqa: PLC0415 - the prompt runs on asyncio

        asyncioreactor.install()  # type: ignore[no-untyped-call]

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)

        def toolbar() -> str:
            where = pool.leader or (f"looking for the leader: {pool.trouble}" if pool.trouble else "not connected")
            return f"{settings.target(APPLICATION).cluster} · {where}"

        terminal: Terminal = PromptTerminal(COMMANDS, toolbar) if is_tty else PipeTerminal(reactor, sys.stdin)
        manual = Manual(pool, terminal, Console(), Console(stderr=True), is_json=is_json)
        pool.on_move = manual.on_move
        try:
            return await manual.run()
        finally:
            await pool.close()

    _react(run)


# The bench.


def _run_bench(settings: Settings, **given: Any) -> None:
    from paxos_twisted_client.report import bench_exit_code, print_json, print_tables  # noqa: PLC0415 - only here

    if len(given["ats"]) != len(given["runs"]):
        raise click.UsageError("--at and --run belong together: one COMMAND for each K")
    seed = given["seed"] if given["seed"] is not None else secrets.randbelow(2**31)
    plan = BenchPlan(given["requests"], given["clients"], given["outstanding"], given["rate"], seed)
    marks = [Mark(at, command) for at, command in zip(given["ats"], given["runs"], strict=True)]
    is_json = settings.is_json
    pool_of = _pool_maker(settings)
    history = _open_history(given["history"])
    shows_progress = sys.stderr.isatty() if given["progress"] is None else given["progress"]

    async def run(reactor: Any) -> int:
        pools = [pool_of(reactor) for _ in range(1 if given["share"] else plan.clients)]
        bench = Bench(reactor, pools, plan, history=history, marks=marks)
        interrupted = _stop_on_signal(reactor, bench)
        # Connect first, so that no round-trip time includes a dial. A cluster that is not there shows in the outcomes.
        opening = DeferredList([pool.connect() for pool in pools], consumeErrors=True)
        await opening.addTimeout(OPENING_S, reactor)
        if not interrupted:
            bench.start()
        await _watched(reactor, bench, Console(stderr=True), shows_progress)
        for pool in pools:
            await pool.close()
        if history is not None:
            history.close()
        await _marks_end(reactor, bench)
        (print_json if is_json else print_tables)(bench, Console())
        return INTERRUPTED if interrupted else bench_exit_code(bench)

    _react(run)


def _open_history(path: Path | None) -> HistoryWriter | None:
    if path is None:
        return None
    try:
        file: IO[bytes] = path.open("wb")
    except OSError as error:
        raise click.UsageError(f"--history: {path}: {error.strerror}") from error
    return HistoryWriter(file)


def _stop_on_signal(reactor: Any, bench: Bench) -> list[int]:
    """Ctrl-C or SIGTERM ends the bench early, with its report. Returns a list that is not empty once that has
    happened."""
    seen: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if seen:  # twice: at once
            os._exit(INTERRUPTED)
        seen.append(number)
        reactor.callFromThread(bench.stop)

    signal.signal(signal.SIGINT, stop)
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, stop)  # Twisted sets this one when it starts
    return seen


async def _watched(reactor: Any, bench: Bench, console: Console, shows_progress: bool) -> None:
    """Wait for the end, and show how far it is."""
    if not shows_progress:
        await bench.finished
        return
    progress = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[where]}"),
        console=console,
        auto_refresh=False,  # from the reactor, not from a thread
        transient=console.is_terminal,
    )
    bar = progress.add_task("transactions", total=bench.total, rate="", where="")

    def show() -> None:
        rate = f"{bench.ended / bench.seconds:,.0f}/s" if bench.seconds else ""
        pool = bench.pools[0]
        progress.update(bar, completed=bench.ended, rate=rate, where=pool.leader or "looking for the leader")
        progress.refresh()

    loop = task.LoopingCall(show)
    loop.clock = reactor
    with progress:
        running = loop.start(PROGRESS_PERIOD_S)
        await bench.finished
        loop.stop()
        await running
        show()


async def _marks_end(reactor: Any, bench: Bench) -> None:
    """Give the commands of --at a moment to end, so that their exit codes are in the report."""
    for _ in range(10):
        if all(mark.process is None or mark.process.poll() is not None for mark in bench.marks):
            return
        await task.deferLater(reactor, 0.05)


# The reactor.


def _pool_maker(settings: Settings) -> Callable[[Any], Pool]:
    """Checks the settings now, so that mistakes are told before a reactor runs."""
    target = settings.target(APPLICATION)
    patience = settings.patience()

    def make(reactor: Any) -> Pool:
        return Pool(
            reactor,
            target.addresses,
            cluster=target.cluster,
            application=target.application,
            patience=patience,
            rng=Random(secrets.randbits(128)),
        )

    return make


def _react(run: Callable[[Any], Coroutine[Any, Any, int]]) -> None:
    """Run the global reactor until `run` is done, and exit with its result."""

    codes: list[int] = []

    async def main_task(reactor: Any) -> None:
        codes.append(await run(reactor))
        raise SystemExit(codes[0])

    def start(reactor: Any) -> "Deferred[None]":
        return Deferred.fromCoroutine(main_task(reactor))

    try:
        task.react(start)
    except SystemExit as end:
        if codes or end.code:
            raise
        # A signal stopped the reactor before we were done. Exit code 0 would claim success.
        click.echo("interrupted: what was under way may or may not have been done", err=True)
        raise SystemExit(INTERRUPTED) from None


def _color(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")
