"""A client program, made from the client side of its application: prompt, single commands, bench, completion.

`client_program(side)` returns the click group; `bankclient.py` shows the few lines that a program consists of. A
program may add commands of its own to the group, and a manual mode of its own; `pool_maker` and `react` are for those.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from time import monotonic_ns
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredList

from paxos_twisted import __version__
from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.limits import COMMAND_BYTES_MAX, SERIES_MAX
from paxos_twisted_client.bench import Bench, BenchPlan, Mark
from paxos_twisted_client.client_side import ClientSide, Field, FormError, Verb
from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.form import Form
from paxos_twisted_client.history import HistoryWriter
from paxos_twisted_client.limits import BENCH_CLIENTS_MAX, BENCH_REQUESTS_MAX, OUTSTANDING_MAX
from paxos_twisted_client.pool import Move, Pool
from paxos_twisted_client.session import Request
from paxos_twisted_client.settings import Settings, shared_options
from paxos_twisted_client.target import FIRST, NEAREST, TARGETS, by_distance, starts

if TYPE_CHECKING:
    from paxos_twisted_client.exposition import Exposition

INTERRUPTED: Final = 130
PROGRESS_PERIOD_S: Final = 0.1
OPENING_S: Final = 2.0
"""How long the bench waits for connections before it begins without them."""

EXIT_CODES: Final = """\b
Exit codes:
  0    done
  1    refused: by {server}, or by the cluster
  2    wrong arguments
  4    no answer in time, or the outcome is unknown
  130  interrupted
"""

SHARED: Final = (
    "nodes", "config", "cluster", "output", "timeout", "dial_timeout", "read_timeout", "write_timeout", "loss",
)  # fmt: skip
"""The names of `shared_options`."""


class Conversation(Protocol):
    """A manual mode that is under way."""

    async def run(self) -> int:
        """Talk until the end. Returns the exit code."""
        ...

    def on_move(self, move: Move) -> None:
        """The pool changes nodes."""
        ...


class ManualMode(Protocol):
    """Makes a conversation; `paxos_twisted_client.manual.Manual` does."""

    def __call__(
        self, side: Any, pool: Pool, terminal: Any, out: Console, err: Console, *, is_json: bool
    ) -> Conversation:
        """`terminal` is a `paxos_twisted_client.terminal.Terminal`."""
        ...


def client_program(side: ClientSide, manual: ManualMode | None = None) -> click.Group:
    """The whole command line of a client program."""

    def program(ctx: click.Context, /, **given: Any) -> None:
        settings = Settings()
        settings.take({name: given.pop(name) for name in SHARED})
        ctx.obj = settings
        if ctx.invoked_subcommand is not None:
            if given["bench"]:
                raise click.UsageError(f"--bench and {ctx.invoked_subcommand} exclude each other")
            return
        if given["bench"]:
            _run_bench(side, settings, **given)
        else:
            _run_manual(side, settings, manual)

    program.__doc__ = _help(side)
    version = click.version_option(__version__, "-V", "--version", prog_name=side.program)
    for add in (version, side.bench_options, _bench_options(side), shared_options):  # the help lists the last one first
        program = add(program)
    group = click.group(
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EXIT_CODES.format(server=side.server),
    )(click.pass_context(program))
    for verb in side.verbs:
        _add_verb(group, side, verb)
    _add_completion(group, side)
    return group


def _help(side: ClientSide) -> str:
    examples = "".join(f"  {f'{side.program} {what}':<35} {meaning}\n" for what, meaning in side.examples)
    return (
        f"{side.intro}\n\n\b\n{examples}\n"
        "The nodes are named by --nodes, by --config, or by PAXOS_NODES or PAXOS_CONFIG in the environment.\n"
        "Results go to stdout, everything else to stderr. NO_COLOR is honoured.\n"
    )


def _bench_options(side: ClientSide) -> Callable[[Any], Any]:
    """The options that every bench has. A further one goes here, into `BenchPlan`, and into the plan of the report."""
    units = f"{side.unit}s"
    options = [
        click.option("--bench", is_flag=True, help=f"Send many random {units} and measure."),
        click.option(
            "-n",
            "--requests",
            type=click.IntRange(1, BENCH_REQUESTS_MAX),
            default=500,
            show_default=True,
            help=f"Bench: {units} per client.",
        ),
        click.option(
            "--clients",
            type=click.IntRange(1, BENCH_CLIENTS_MAX),
            default=1,
            show_default=True,
            help="Bench: clients at once.",
        ),
        click.option(
            "--outstanding",
            type=click.IntRange(1, OUTSTANDING_MAX),
            default=1,
            show_default=True,
            help=f"Bench: {units} that each client has under way.",
        ),
        *(
            [
                click.option(
                    "--batch",
                    type=click.IntRange(1, SERIES_MAX),
                    default=1,
                    show_default=True,
                    help=f"Bench: {units} in each request; -n, --outstanding and --rate then count requests.",
                )
            ]
            if APPLICATIONS[side.application]().takes_series
            else []
        ),
        click.option(
            "--rate",
            type=click.FloatRange(0, min_open=True),
            help=f"Bench: {units} per second of all clients together, sent on time whether or not answers come "
            "(open loop).",
        ),
        click.option("--share", is_flag=True, help="Bench: all clients share one connection."),
        click.option(
            "--target",
            type=click.Choice(TARGETS),
            default=FIRST,
            show_default=True,
            help="Bench: the node to begin with: the first one named, all in turns, or the one that answers soonest. "
            "A node that does not lead, where there is a leader, sends its clients there.",
        ),
        click.option(
            "--seed", type=int, envvar="PAXOS_SEED", help=f"Bench: same seed, same {units}; else a random one."
        ),
        click.option(
            "--history", type=click.Path(dir_okay=False, path_type=Path), help="Bench: record every call as JSON lines."
        ),
        click.option(
            "--progress/--no-progress",
            default=None,
            help="Bench: a live bar on stderr; else when stderr is a terminal.",
        ),
        click.option(
            "--at",
            "ats",
            type=click.IntRange(0),
            multiple=True,
            metavar="K",
            help=f"Bench: once K {units} are answered, start the command of --run. Both may be repeated.",
        ),
        click.option("--run", "runs", multiple=True, metavar="COMMAND", help="Bench: the shell command for --at."),
        click.option(
            "--metrics-port", type=click.IntRange(1, 65535), help="Bench: answer Prometheus at this port, on /metrics."
        ),
        click.option(
            "--metrics-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Bench: write the metrics into this file, for node-exporter's textfile collector.",
        ),
    ]

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


# Single commands.


def _add_verb(group: click.Group, side: ClientSide, verb: Verb) -> None:
    fields: tuple[Field, ...] = (*verb.fields, *verb.optional)

    def command(settings: Settings, /, **given: Any) -> None:
        words = [word for field in fields if (word := given.pop(field.name)) is not None]
        settings.take(given)
        if len(words) == len(verb.fields) - 1 and verb.fields[-1].is_piped:
            words.append(_piped(verb.fields[-1]))
        try:
            form = Form.from_words(side, [verb.name, *words])
            op = form.op()
        except FormError as error:
            raise click.UsageError(str(error)) from error
        _run_one(side, settings, op)

    command.__doc__ = verb.summary
    function = click.pass_obj(shared_options(side.verb_options(command)))
    for field in reversed(fields):
        function = click.argument(field.name, required=field in verb.fields and not field.is_piped)(function)
    # Unknown options are let through as arguments: an amount may be negative (and the bank says what it thinks of it).
    group.command(
        verb.name,
        context_settings={"ignore_unknown_options": True},
        epilog=EXIT_CODES.format(server=side.server),
    )(function)


def _piped(field: Field) -> str:
    """All that comes through the pipe, as a word of the command line has it: bytes that are not UTF-8 are escaped."""
    if sys.stdin.isatty():
        raise click.UsageError(f"Missing argument '{field.name.upper()}'; it may also come through a pipe.")
    return sys.stdin.buffer.read(COMMAND_BYTES_MAX + 1).decode("utf-8", "surrogateescape")


def _add_completion(group: click.Group, side: ClientSide) -> None:
    def completion(shell: str) -> None:
        from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

        found = get_completion_class(shell)
        assert found is not None
        click.echo(found(group, {}, side.program, f"_{side.program.upper()}_COMPLETE").source())

    completion.__doc__ = (
        f"Print the completion script of a shell.\n\nFor ~/.bashrc: source <({side.program} completion bash)"
    )
    group.command()(click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))(completion))


def _run_one(side: ClientSide, settings: Settings, op: Any) -> None:
    import json  # noqa: PLC0415 - only here

    from paxos_twisted_client.teller import EXIT_OK, Teller, as_json, exit_code, sentence  # noqa: PLC0415

    is_json = settings.is_json
    pool_of = pool_maker(side, settings)

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)
        request = await Teller(pool).execute(op)
        leader = pool.leader
        await pool.close()
        code = exit_code(side, request)
        if is_json:
            click.echo(json.dumps(as_json(side, request, leader)))
        elif code == EXIT_OK:
            _print_answer(side, request)
        else:
            click.echo(click.style(sentence(side, request), fg="red"), err=True, color=_color(sys.stderr))
        return code

    react(run)


def _print_answer(side: ClientSide, request: Request) -> None:
    op, result = request.op, request.result
    raw = None if sys.stdout.isatty() else side.raw(op, result)
    if raw is None:
        click.echo(side.say(op, result))
    else:
        click.echo(raw, nl=False)
    if note := side.note(op, result):
        click.echo(note, err=True)


# The prompt.


def _run_manual(side: ClientSide, settings: Settings, mode: ManualMode | None) -> None:
    from paxos_twisted_client.manual import Manual  # noqa: PLC0415 - the prompt is heavy
    from paxos_twisted_client.terminal import PipeTerminal, PromptTerminal, Terminal  # noqa: PLC0415

    is_json = settings.is_json
    is_tty = sys.stdin.isatty() and sys.stdout.isatty()
    pool_of = pool_maker(side, settings)
    if is_tty:
        from twisted.internet import asyncioreactor  # noqa: PLC0415 - the prompt runs on asyncio

        asyncioreactor.install()  # type: ignore[no-untyped-call]

    async def run(reactor: Any) -> int:
        pool = pool_of(reactor)

        def toolbar() -> str:
            where = pool.leader or (f"looking for the leader: {pool.trouble}" if pool.trouble else "not connected")
            return " · ".join(filter(None, (settings.target(side.application).cluster, where, side.toolbar())))

        terminal: Terminal = (
            PromptTerminal(side.application, side.words, toolbar) if is_tty else PipeTerminal(reactor, sys.stdin)
        )
        make: ManualMode = Manual if mode is None else mode
        conversation = make(side, pool, terminal, Console(), Console(stderr=True), is_json=is_json)
        pool.on_move = conversation.on_move
        try:
            return await conversation.run()
        finally:
            await pool.close()

    react(run)


# The bench.


def _run_bench(side: ClientSide, settings: Settings, **given: Any) -> None:
    from paxos_twisted_client.report import bench_exit_code, print_json, print_tables  # noqa: PLC0415 - only here

    if len(given["ats"]) != len(given["runs"]):
        raise click.UsageError("--at and --run belong together: one COMMAND for each K")
    seed = given["seed"] if given["seed"] is not None else secrets.randbelow(2**31)
    spread = len(starts(given["target"], settings.target(side.application).addresses))
    plan = BenchPlan(
        given["requests"],
        given["clients"],
        given["outstanding"],
        given["rate"],
        given.get("batch", 1),
        seed,
        target=given["target"],
        spread=spread,
        workload=side.workload_of(given),
    )
    marks = [Mark(at, command) for at, command in zip(given["ats"], given["runs"], strict=True)]
    is_json = settings.is_json
    pool_of = pool_maker(side, settings)
    addresses_of = _address_finder(side, settings, plan)
    history = _open_history(given["history"], side)
    shows_progress = sys.stderr.isatty() if given["progress"] is None else given["progress"]

    async def run(reactor: Any) -> int:
        orders = await addresses_of(reactor)
        pools = [pool_of(reactor, order) for _ in range(1 if given["share"] else plan.clients) for order in orders]
        bench = Bench(reactor, pools, plan, side=side, history=history, marks=marks)
        exposition = _expose(reactor, bench, given["metrics_port"], given["metrics_file"])
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
        if exposition is not None:
            await exposition.close()
        await _marks_end(reactor, bench)
        (print_json if is_json else print_tables)(bench, Console())
        return INTERRUPTED if interrupted else bench_exit_code(bench)

    react(run)


def _address_finder(
    side: ClientSide, settings: Settings, plan: BenchPlan
) -> Callable[[Any], Coroutine[Any, Any, list[tuple[Address, ...]]]]:
    """Finds the orders in which the pools of one client try the addresses."""
    target = settings.target(side.application)
    patience = settings.patience()

    async def find(reactor: Any) -> list[tuple[Address, ...]]:
        addresses = target.addresses
        if plan.target == NEAREST:
            addresses = await by_distance(
                reactor,
                addresses,
                cluster=target.cluster,
                application=target.application,
                patience=patience,
                now_ns=monotonic_ns,
            )
        return starts(plan.target, addresses)

    return find


def _expose(reactor: Any, bench: Bench, port: int | None, file: Path | None) -> "Exposition | None":
    if port is None and file is None:
        return None
    from twisted.internet.error import CannotListenError  # noqa: PLC0415 - only here

    from paxos_twisted_client.exposition import BenchMetrics, Exposition  # noqa: PLC0415 - needs HTTP

    try:
        return Exposition(reactor, BenchMetrics(bench), port, file)
    except CannotListenError as error:
        text = f"--metrics-port: {port}: {error.socketError}"
    except OSError as error:
        text = f"--metrics-file: {file}: {error.strerror}"
    click.echo(text, err=True)
    raise SystemExit(2)


def _open_history(path: Path | None, side: ClientSide) -> HistoryWriter | None:
    if path is None:
        return None
    try:
        file: IO[bytes] = path.open("wb")
    except OSError as error:
        raise click.UsageError(f"--history: {path}: {error.strerror}") from error
    return HistoryWriter(file, side)


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
    bar = progress.add_task(f"{bench.side.unit}s", total=bench.total, rate="", where="")

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


def pool_maker(side: ClientSide, settings: Settings) -> Callable[..., Pool]:
    """Makes a function (reactor, addresses in the order to try, by default as named) -> Pool.

    Checks the settings now, so that mistakes are told before a reactor runs.
    """
    target = settings.target(side.application)
    patience, loss = settings.patience(), settings.loss

    def make(reactor: Any, addresses: Sequence[Address] | None = None) -> Pool:
        return Pool(
            reactor,
            target.addresses if addresses is None else addresses,
            cluster=target.cluster,
            application=target.application,
            patience=patience,
            rng=Random(secrets.randbits(128)),
            loss=loss,
        )

    return make


def react(run: Callable[[Any], Coroutine[Any, Any, int]]) -> None:
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
