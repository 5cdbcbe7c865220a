"""What a bench has measured, as tables for people and as JSON for programs."""

import json
import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from paxos_twisted import __version__
from paxos_twisted_client.bench import Bench, BenchClient
from paxos_twisted_client.connection import CAUSES, NS, TIMEOUTS
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.statistics import (
    DEVIATION_METHOD,
    PERCENTILE_METHOD,
    Summary,
    overlap_ns,
    summarize,
)
from paxos_twisted_client.teller import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN

MS = 1_000_000


def bench_json(bench: Bench) -> dict[str, Any]:
    """Everything that was measured. Times are milliseconds where the key says so, else seconds; `_ns` are readings of
    the monotonic clock of this host, as in the history."""
    plan = bench.plan
    answered = sum(client.answered for client in bench.clients)
    shared = len(bench.pools) < len(bench.clients) * plan.spread
    return {
        "program": bench.side.program,
        "version": __version__,
        "plan": {
            "requests_per_client": plan.requests,
            "clients": plan.clients,
            "outstanding": plan.outstanding,
            "batch": plan.batch,
            "rate": plan.rate,
            "seed": plan.seed,
            "shared_connection": shared,
            "target": plan.target,
        }
        | ({"workload": dict(plan.workload)} if plan.workload else {}),
        "methods": {
            "deviation": DEVIATION_METHOD,
            "percentile": PERCENTILE_METHOD,
            "rtt": "from the time at which a request was due"
            if plan.rate is not None
            else "from the call that submitted a request to its answer, retries included",
        },
        "clock": {"monotonic_ns": time.monotonic_ns(), "unix_ns": time.time_ns()},
        "started_ns": bench.started_ns,
        "seconds": round(bench.seconds, 6),
        "throughput_per_s": round(answered * plan.batch / bench.seconds, 1) if bench.seconds else 0.0,
        "cpu_s": round(bench.cpu_s, 3),
        "clients": [_client_json(bench, client) for client in bench.clients],
        "together": _numbers(bench, bench.clients)
        | {"rtt_ms": _ms(summarize(_rtts(bench)))}
        | {"longest_gap": _gap(bench)},
        "reconnects": _reconnects(bench.pools),
        "moves": [
            {
                "time_ns": move.time_ns,
                "address": str(move.address),
                "cause": move.cause,
                "text": move.text,
                "waited_s": round(move.waited_s, 6),
            }
            for pool in bench.pools
            for move in pool.moves
        ],
        "marks": [
            {
                "at": mark.at,
                "command": mark.command,
                "time_ns": mark.time_ns,
                "seconds": None if mark.time_ns is None else round((mark.time_ns - bench.started_ns) / NS, 6),
                "exit_code": None if mark.process is None else mark.process.poll(),
            }
            for mark in bench.marks
        ],
        "exit_code": bench_exit_code(bench),
    }


def bench_exit_code(bench: Bench) -> int:
    """0 when every request was answered, 4 when the outcome of one is unknown, else 1."""
    unanswered = bench.total - bench.ended
    if unanswered or any(client.unknown for client in bench.clients):
        return EXIT_UNKNOWN
    return EXIT_FAILED if any(client.refused for client in bench.clients) else EXIT_OK


def print_json(bench: Bench, console: Console) -> None:
    """The report as one JSON object."""
    console.file.write(json.dumps(bench_json(bench), indent=2) + "\n")


def print_tables(bench: Bench, console: Console) -> None:
    """The report as tables: the lab's statistics first, then what went wrong, if anything."""
    plan = bench.plan
    batches = f"batches of {plan.batch:,} " if bench.is_series else ""
    what = f"{plan.clients} client{'s' * (plan.clients != 1)} x {plan.requests} {batches}{bench.side.unit}s"
    how = f"{plan.outstanding} at a time" if plan.rate is None else f"{plan.rate:g} per second, open loop"
    if plan.workload:
        how += f", {bench.side.say_workload(plan.workload)}"
    together = summarize(_rtts(bench))
    table = Table(
        title=f"{what}, {how}, seed {plan.seed}",
        caption="round-trip times in ms; std dev of the sample (n-1); p99 by nearest rank",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        caption_style="dim",
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("client")
    for name in ("answered", "mean", "min", "max", "median", "std dev", "p99", "max gap"):
        table.add_column(name, justify="right")
    if len(bench.clients) <= 32:
        for client in bench.clients:
            _row(table, str(client.process + 1), summarize(client.rtts_ns), client.gap.longest_ns)
    if len(bench.clients) > 1:
        table.add_section()
        _row(table, "together", together, _worst(bench).gap.longest_ns, style="bold")
    console.print(table)
    console.print()
    _print_service(bench, console, together.count)


def _print_service(bench: Bench, console: Console, answered: int) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    answered *= bench.plan.batch
    rate = answered / bench.seconds if bench.seconds else 0.0
    facts.add_row("throughput", f"{rate:,.0f} per second, in {bench.seconds:.2f} s")
    rejected = sum(client.rejected for client in bench.clients)
    facts.add_row("answers", f"{answered:,}; {bench.side.server} said no to {rejected:,} of them")
    refused = sum(client.refused for client in bench.clients)
    unknown = sum(client.unknown for client in bench.clients)
    unanswered = bench.total - bench.ended
    facts.add_row("refused", f"[red]{refused:,}[/red]" if refused else "0")
    facts.add_row("unknown", f"[red]{unknown:,}[/red]" if unknown else "0")
    if unanswered:
        facts.add_row("interrupted", f"[red]{unanswered:,}[/red] not sent or not answered")
    gap = _gap(bench)
    share = f", {gap['timeout_share']:.0%} of it waiting for timeouts" if gap["ms"] else ""
    facts.add_row("longest gap", f"{gap['ms']:.1f} ms, client {gap['process'] + 1}{share}")
    causes = {cause: count for cause, count in _reconnects(bench.pools).items() if count}
    told = ", ".join(f"{cause.replace('_', ' ')} {count}" for cause, count in causes.items())
    facts.add_row("reconnects", told or "none")
    for mark in bench.marks:
        when = "never reached" if mark.time_ns is None else f"{(mark.time_ns - bench.started_ns) / NS:.3f} s"
        facts.add_row(f"at {mark.at:,}", f"{when}: {mark.command}")
    console.print(facts)


def _row(table: Table, name: str, summary: Summary, gap_ns: int, style: str = "") -> None:
    times = (summary.mean, summary.minimum, summary.maximum, summary.median, summary.deviation, summary.percentile_99)
    table.add_row(
        name, f"{summary.count:,}", *(f"{time / MS:.3f}" for time in times), f"{gap_ns / MS:.1f}", style=style
    )


def _client_json(bench: Bench, client: BenchClient) -> dict[str, Any]:
    sessions = [session.client for session in client.sessions]
    return (
        {"process": client.process, "client": sessions[0]}
        | ({"sessions": sessions} if len(sessions) > 1 else {})
        | _numbers(bench, [client])
        | {"rtt_ms": _ms(summarize(client.rtts_ns)), "longest_gap_ms": round(client.gap.longest_ns / MS, 3)}
        | {"reconnects": _reconnects(client.pools)}
    )


def _numbers(bench: Bench, clients: list[BenchClient]) -> dict[str, int]:
    return {
        "sent": sum(client.sent for client in clients),
        "answered": sum(client.answered for client in clients),
        bench.side.rejected_key: sum(client.rejected for client in clients),
        "refused": sum(client.refused for client in clients),
        "unknown": sum(client.unknown for client in clients),
    }


def _ms(summary: Summary) -> dict[str, float]:
    return {
        "count": summary.count,
        "mean": round(summary.mean / MS, 6),
        "min": round(summary.minimum / MS, 6),
        "max": round(summary.maximum / MS, 6),
        "median": round(summary.median / MS, 6),
        "stdev": round(summary.deviation / MS, 6),
        "p99": round(summary.percentile_99 / MS, 6),
    }


def _rtts(bench: Bench) -> list[int]:
    return [rtt for client in bench.clients for rtt in client.rtts_ns]


def _worst(bench: Bench) -> BenchClient:
    return max(bench.clients, key=lambda client: client.gap.longest_ns)


def _gap(bench: Bench) -> dict[str, Any]:
    """The longest gap of any client, and how much of it that client spent waiting for timeouts."""
    client = _worst(bench)
    length_ns, end_ns = client.gap.longest_ns, client.gap.longest_end_ns
    waits = [
        (move.time_ns - int(move.waited_s * NS), move.time_ns)
        for pool in client.pools
        for move in pool.moves
        if move.cause in TIMEOUTS
    ]
    waited_ns = overlap_ns(end_ns - length_ns, end_ns, waits)
    return {
        "ms": round(length_ns / MS, 3),
        "process": client.process,
        "start_ns": end_ns - length_ns,
        "end_ns": end_ns,
        "sent_ns": client.gap.longest_sent_ns,
        "steps": [step for step in client.steps_since(end_ns - length_ns) if step.time_ns <= end_ns],
        "timeout_share": round(waited_ns / length_ns, 4) if length_ns else 0.0,
    }


def _reconnects(pools: Sequence[Pool]) -> dict[str, int]:
    return {cause: sum(pool.reconnects[cause] for pool in pools) for cause in CAUSES}
