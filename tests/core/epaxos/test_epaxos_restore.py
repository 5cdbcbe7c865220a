"""What a replica knows after a restart, and when it must not start."""

from random import Random

import pytest
from mini_cluster import SETTINGS, MiniCluster

from paxos_twisted.apps.bank import Bank
from paxos_twisted.core.engine import LogDamaged
from paxos_twisted.core.epaxos import EPaxos
from paxos_twisted.core.epaxos.messages import PreAccept, PreAcceptReply
from paxos_twisted.core.records import Cell, Decisions, Header, Truncated, Vowed


def make(**more: object) -> EPaxos:
    return EPaxos(1, (1, 2, 3), SETTINGS, Random(1), application=Bank(), **more)  # type: ignore[arg-type]


def test_a_lost_vote_stops_the_replica() -> None:
    with pytest.raises(LogDamaged, match="1 records cannot be read"):
        make(lost=[Cell(4, 0, 0, 1, 0, 0, (), 1, False, None, 0, 1, b"x").header])
    with pytest.raises(LogDamaged):
        make(lost=[Vowed(4, (1, 1, 1)).header])


def test_lost_decisions_and_hints_do_not() -> None:
    make(lost=[Decisions(4, ()).header, Header()])


def test_a_lost_snapshot_stops_the_replica() -> None:
    with pytest.raises(LogDamaged, match="snapshot of slot 9 cannot be read"):
        make(snapshot=9)


def settled(turns: int = 40) -> MiniCluster:
    cluster = MiniCluster(3, 1)
    cluster.warm_up()
    for turn in range(turns):
        cluster.propose(1 + turn % 3, cluster.command(turn % 4))
        cluster.run(20)
    cluster.settle()
    return cluster


def test_after_a_restart_everything_durable_is_executed_again() -> None:
    cluster = settled()
    before = [machine.engine.grid.executed for machine in cluster.machines.values() if machine.engine]
    for machine in cluster.machines.values():
        machine.crash()
    cluster.heal()
    cluster.settle()
    after = [machine.engine.grid.executed for machine in cluster.machines.values() if machine.engine]
    assert after == before


def test_truncation_keeps_what_the_snapshot_does_not_cover() -> None:
    """A snapshot is taken with instances open; what the log loses then, the snapshot's part has."""
    cluster = settled()
    machine = cluster.machines[1]
    engine = machine.engine
    assert engine is not None
    cluster.propose(3, cluster.command(1))
    cluster.deliver_all((PreAccept,))  # pre-accepted here, not committed
    part, position = engine.snapshot_part(), engine.position
    cluster.propose(1, cluster.command(2))
    cluster.deliver_all((PreAccept, PreAcceptReply))
    engine.on_snapshot(position)
    out = engine.take_output()
    assert isinstance(out.records[-1], Truncated)
    assert out.records[-1].slot == position - 1
    first = next(i for i, record in enumerate(machine.records) if record.header.slot >= position)
    kept = [*machine.records[first:], *(record for record in out.records if not isinstance(record, Truncated))]
    again = EPaxos(1, (1, 2, 3), SETTINGS, Random(1), kept, (), position, position, application=Bank(), part=part)
    again.take_output()
    assert again.grid.executed == engine.grid.executed
    assert again.position == engine.position
    assert again._next == engine._next
    open_one = engine.grid.get(2, engine.grid.columns[2].top)
    mine = again.grid.get(2, engine.grid.columns[2].top)
    assert open_one is not None
    assert mine is not None
    assert (mine.status, mine.deps, mine.seq, mine.body) == (
        open_one.status,
        open_one.deps,
        open_one.seq,
        open_one.body,
    )
    for column in range(3):
        access = open_one.access
        assert again.index.newest(access)[column] >= engine.index.newest(access)[column]


def test_a_snapshot_is_accepted_only_if_it_covers_what_was_executed_here() -> None:
    cluster = settled()
    one, other = cluster.machines[1].engine, cluster.machines[2].engine
    assert one is not None
    assert other is not None
    old = one.snapshot_part()
    assert other.accepts_snapshot(old)
    assert one.coverage() == other.coverage()
    cluster.propose(2, cluster.command(1))
    cluster.settle()
    assert not other.accepts_snapshot(old)
    assert not other.accepts_snapshot(b"\x00")
    assert make().accepts_snapshot(old)


def test_an_installed_snapshot_takes_the_place_of_what_was_missing() -> None:
    cluster = settled()
    donor = cluster.machines[1].engine
    assert donor is not None
    laggard = make()
    laggard.on_installed(donor.position, donor.snapshot_part())
    assert laggard.grid.executed == donor.grid.executed
    assert laggard.position == donor.position
    assert laggard.coverage() == donor.coverage()
    assert laggard._next == donor.grid.columns[0].top + 1
    laggard.check_invariants()
