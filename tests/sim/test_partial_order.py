"""Replicas with orders of their own: what the checks of interference let pass, and what wakes them."""

from collections.abc import Callable

import msgspec
import pytest

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, Bank, BankOp, BankResult
from paxos_twisted.core.command import Barrier, Command, Series
from paxos_twisted.core.records import SnapshotTaken
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.subjects.order import PartialOrderInvariants
from paxos_twisted.sim.workloads.bank import BankSpecification
from paxos_twisted.types import ClientId, NodeId

ONE, TWO = NodeId(1), NodeId(2)


def deposit(client: int, account: int, seq: int = 1) -> Command[BankOp]:
    return Command(ClientId(client), -1, seq, 1, BankOp(DEPOSIT, account, 10))


def look(client: int, account: int) -> Command[BankOp]:
    return Command(ClientId(client), -1, 1, 1, BankOp(BALANCE, account))


def ten(account: int, times: int = 1) -> BankResult:
    return BankResult(account, 10 * times)


def fresh() -> PartialOrderInvariants:
    invariants = PartialOrderInvariants((ONE, TWO), Model(BankSpecification()), Bank().footprint)
    for node in (ONE, TWO):
        invariants.on_started(node, 1)
    return invariants


def test_what_does_not_interfere_may_run_in_any_order() -> None:
    invariants = fresh()
    invariants.on_applied(ONE, 0, [deposit(1, 1), deposit(2, 2), look(3, 1)], [ten(1), ten(2), ten(1)])
    assert not invariants.is_level((ONE, TWO))
    invariants.on_applied(TWO, 0, [deposit(2, 2)], [ten(2)])
    invariants.on_applied(TWO, 1, [None, deposit(1, 1), look(3, 1)], [None, ten(1), ten(1)])
    assert invariants.is_level((ONE, TWO))
    assert invariants.has_executed(TWO, 3, 1)


def series(client: int, *ops: BankOp) -> Series[BankOp]:
    return Series(ClientId(client), -1, 1, 1, ops)


def tens(*accounts: int) -> bytes:
    """What a series is told: each of these accounts holds ten."""
    return msgspec.msgpack.encode([ten(account) for account in accounts])


def test_a_series_has_one_place_among_the_writers_of_all_its_keys() -> None:
    invariants = fresh()
    both = series(3, BankOp(DEPOSIT, 1, 10), BankOp(BALANCE, 1), BankOp(DEPOSIT, 2, 10))
    invariants.on_applied(ONE, 0, [both, None, None, deposit(1, 4)], [tens(1, 1, 2), None, None, ten(4)])
    invariants.on_applied(TWO, 0, [deposit(1, 4), both, None, None], [ten(4), tens(1, 1, 2), None, None])
    assert invariants.is_level((ONE, TWO))
    invariants.on_applied(ONE, 4, [deposit(2, 2)], [ten(2, 2)])
    assert invariants.writers[1] == [(3, 1, 0)]
    assert invariants.writers[2] == [(3, 1, 0), (2, 1, 0)]


def series_behind_a_write_that_it_reads(i: PartialOrderInvariants) -> None:
    one = series(3, BankOp(DEPOSIT, 1, 10), BankOp(BALANCE, 2))
    i.on_applied(ONE, 0, [one, None], [msgspec.msgpack.encode([ten(1), BankResult(2, 0)]), None])
    i.on_applied(TWO, 0, [deposit(2, 2), one, None], [ten(2), tens(1, 2), None])


def writes_in_another_order(i: PartialOrderInvariants) -> None:
    i.on_applied(ONE, 0, [deposit(1, 1), deposit(2, 1)], [ten(1), ten(1, 2)])
    i.on_applied(TWO, 0, [deposit(2, 1)], [ten(1)])


def read_before_the_write(i: PartialOrderInvariants) -> None:
    i.on_applied(ONE, 0, [deposit(1, 1), look(2, 1)], [ten(1), ten(1)])
    i.on_applied(TWO, 0, [look(2, 1)], [BankResult(1, 0)])


def clients_commands_in_another_order(i: PartialOrderInvariants) -> None:
    i.on_applied(ONE, 0, [deposit(1, 1), deposit(1, 2, seq=2)], [ten(1), ten(2)])
    i.on_applied(TWO, 0, [deposit(1, 2, seq=2)], [ten(2)])


def barrier_behind_other_commands(i: PartialOrderInvariants) -> None:
    i.on_applied(ONE, 0, [deposit(1, 1), Barrier()], [ten(1), None])  # type: ignore[list-item]
    i.on_applied(TWO, 0, [deposit(2, 2), Barrier()], [ten(2), None])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(writes_in_another_order, id="two writes of a key in two orders"),
        pytest.param(read_before_the_write, id="a read before and behind a write"),
        pytest.param(series_behind_a_write_that_it_reads, id="a series before and behind a write that it reads"),
        pytest.param(clients_commands_in_another_order, id="two commands of one client in two orders"),
        pytest.param(barrier_behind_other_commands, id="a barrier behind different commands"),
    ],
)
def test_interfering_commands_run_in_one_order(mistake: Callable[[PartialOrderInvariants], None]) -> None:
    with pytest.raises(Violation, match=r"^EX"):
        mistake(fresh())


def test_results_are_the_same_everywhere() -> None:
    invariants = fresh()
    invariants.on_applied(ONE, 0, [deposit(1, 1)], [ten(1)])
    with pytest.raises(Violation, match=r"^EQ"):
        invariants.on_applied(TWO, 0, [deposit(1, 1)], [ten(1, 2)])


def test_replicas_that_have_executed_the_same_hold_the_same() -> None:
    invariants, rich, poor = fresh(), Bank(), Bank()
    rich.apply(BankOp(DEPOSIT, 1, 10), 1)
    for node in (ONE, TWO):
        invariants.on_applied(node, 0, [deposit(1, 1)], [ten(1)])
    invariants.on_photograph(ONE, list(rich.tables()))
    with pytest.raises(Violation, match=r"^EQ"):
        invariants.on_photograph(TWO, list(poor.tables()))


def test_a_snapshot_brings_what_it_shows_and_takes_nothing_away() -> None:
    invariants, bank = fresh(), Bank()
    invariants.on_applied(ONE, 0, [deposit(1, 1)], [ten(1)])
    invariants.on_photograph(ONE, list(bank.tables()))
    invariants.on_record(ONE, SnapshotTaken(0, 1, "digest"))
    invariants.on_installed(TWO, 0, "digest", True)
    assert invariants.is_level((ONE, TWO))
    with pytest.raises(Violation, match=r"^ADU"):
        invariants.on_installed(TWO, 0, "another", True)
    invariants.on_applied(TWO, 1, [deposit(2, 2)], [ten(2)])
    with pytest.raises(Violation, match=r"^ADU"):
        invariants.on_installed(TWO, 0, "digest", True)
