"""One turn of one system: start it, warm it up, measure everything, kill its leader, stop it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.load import LoadError
from benchmarks.measure import Load, Outage, Results, Turn, measure
from benchmarks.outage import OutageError
from benchmarks.peers.system import PeerError, System
from benchmarks.usage import disk_bytes

WARM_UP = Load(64, 1)

TROUBLE = (LoadError, OutageError, PeerError, OSError)


class Plan(NamedTuple):
    """What is measured in a turn, and how often."""

    loads: Sequence[Load]
    seconds: float
    """Of each load."""
    rounds: int
    """Turns of each system, in turns: A B C A B C."""
    kills: int
    """Deaths of the leader in each turn."""
    warm_up_s_max: float
    limit_s: float
    """No turn is begun that would end, as far as can be told, after this time."""


def take_turn(
    system: System, plan: Plan, directory: Path, results: Results, say: Callable[[str], object], name: str
) -> None:
    """Add what one turn finds to `results`; what fails becomes a note there. Leaves no process behind.

    Args:
        directory: empty, for the nodes.
        say: told what is happening.
        name: of the turn, for notes.
    """
    try:
        say(f"{name}: start")
        began = time.monotonic()
        system.start(directory)
        start_s = time.monotonic() - began
        _note_command(system, results)
        say(f"{name}: warm-up")
        measure(system, WARM_UP, min(system.warm_up_s, plan.warm_up_s_max))
        _loads(system, plan, results, say, name)
        results.turns.append(Turn(system.name, start_s, disk_bytes(directory) / 1e6))
        for kill in range(plan.kills):
            say(f"{name}: kill -9 of the leader")
            leader = system.leader()
            results.outages.append(Outage(system.name, system.outage() * 1e3))
            if kill + 1 < plan.kills:
                system.restart(leader)
    except TROUBLE as error:
        results.notes.append(f"{name} was broken off: {error}")
    finally:
        system.stop()


def _loads(system: System, plan: Plan, results: Results, say: Callable[[str], object], name: str) -> None:
    smallest = min(load.value_bytes for load in plan.loads)
    for load in plan.loads:
        if (load.value_bytes > smallest and not system.has_values) or (load.batch > 1 and not system.has_batches):
            continue
        say(f"{name}: {load}, {load.value_bytes} B")
        try:
            results.measurements.append(measure(system, load, plan.seconds))
        except LoadError as error:  # the system may well be able to bear the next one
            results.notes.append(f"{name}, {load} with {load.value_bytes} B: {error}")


def _note_command(system: System, results: Results) -> None:
    for i, subject in enumerate(results.subjects):
        if subject.system == system.name and not subject.command:
            results.subjects[i] = msgspec.structs.replace(subject, command=system.command())
