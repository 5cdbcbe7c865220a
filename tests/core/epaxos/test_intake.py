"""Which commands begin, and which wait at a key that has enough open writes."""

from random import Random

import msgspec
import pytest

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, Bank, BankOp
from paxos_twisted.core.command import NOOP, Command, Series, as_run, split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.epaxos.intake import Intake
from paxos_twisted.core.epaxos.interference import Access, footprints_of
from paxos_twisted.limits import EPAXOS_OPEN_MAX, EPAXOS_OPEN_PER_KEY
from paxos_twisted.types import ClientId


def command(account: int, client: int, seq: int = 1, kind: int = DEPOSIT) -> bytes:
    return msgspec.msgpack.encode(Command(client, 0, seq, 1, BankOp(kind, account, 1)))


def batch(*commands: bytes) -> Batch:
    return Batch(b"".join(commands), len(commands))


class Replica:
    """Begins what the intake gives, and executes it in order."""

    def __init__(self) -> None:
        self.intake = Intake(footprints_of(Bank()))
        self.open: list[tuple[Batch, Access]] = []
        self.began: list[bytes] = []

    def add(self, *commands: bytes) -> None:
        self.intake.add(batch(*commands))
        self.pump()

    def pump(self) -> None:
        while (taken := self.intake.take()) is not None:
            self.intake.begun(*taken)
            self.open.append(taken)
            self.began += split_run(taken[0].body, taken[0].count)

    def execute(self) -> None:
        done, access = self.open.pop(0)
        self.intake.on_executed(done.body, access)
        self.pump()


def test_a_batch_that_is_free_goes_on_as_the_bytes_that_came() -> None:
    replica = Replica()
    whole = batch(command(1, 1), command(2, 2))
    replica.intake.add(whole)
    taken = replica.intake.take()
    assert taken is not None
    assert taken[0] is whole
    assert replica.intake.waiting == 0


def test_writes_of_a_hot_key_wait_and_go_together() -> None:
    replica = Replica()
    for client in range(20):
        replica.add(command(7, client))
    assert len(replica.open) == EPAXOS_OPEN_PER_KEY
    assert replica.intake.waiting == replica.intake.parked == 20 - EPAXOS_OPEN_PER_KEY
    replica.execute()
    assert replica.open[-1][0].count == 20 - EPAXOS_OPEN_PER_KEY
    assert replica.intake.waiting == 0


def test_other_keys_do_not_wait_for_a_hot_one() -> None:
    replica = Replica()
    for client in range(20):
        replica.add(command(7, client), command(1000 + client, 100 + client))
    assert len(replica.open) == 20
    assert replica.intake.waiting == 20 - EPAXOS_OPEN_PER_KEY


def test_reads_do_not_wait() -> None:
    replica = Replica()
    for client in range(20):
        replica.add(command(7, client, kind=BALANCE))
    assert len(replica.open) == 20


def test_the_commands_of_a_client_stay_in_order() -> None:
    replica = Replica()
    for client in range(EPAXOS_OPEN_PER_KEY):
        replica.add(command(7, client))
    replica.add(command(7, 99, 1))
    replica.add(command(8, 99, 2))
    assert replica.intake.waiting == 2
    replica.execute()
    assert replica.began[-2:] == [command(7, 99, 1), command(8, 99, 2)]


def test_a_series_and_the_slots_behind_it_stay_together() -> None:
    """Its no-ops alone touch nothing; as an instance they would be taken for what a recovery decides."""
    replica = Replica()
    for client in range(EPAXOS_OPEN_PER_KEY):
        replica.add(command(7, client))
    series = Series(ClientId(99), 0, 1, 1, (BankOp(DEPOSIT, 7, 1),) * 5)
    run = as_run(msgspec.msgpack.encode(series), series)
    replica.intake.add(Batch(run, 5, is_whole=True))
    replica.add(command(8, 50))
    replica.pump()
    assert NOOP not in replica.began
    assert replica.began[-1] == command(8, 50)
    assert replica.intake.waiting == replica.intake.parked == 5
    replica.execute()
    assert replica.open[-1][0] == Batch(run, 5)
    assert replica.intake.waiting == replica.intake.parked == 0


def test_strict_means_one_open_write_a_key() -> None:
    replica = Replica()
    replica.add(command(7, 1))
    replica.intake.set_strict(True)
    replica.add(command(7, 2), command(8, 3))
    assert [one[0].count for one in replica.open] == [1, 1]
    replica.intake.set_strict(False)
    replica.pump()
    assert replica.intake.waiting == 0


def test_open_instances_are_bounded_and_batches_grow() -> None:
    replica = Replica()
    for client in range(EPAXOS_OPEN_MAX + 50):
        replica.add(command(client, client))
    assert len(replica.open) == EPAXOS_OPEN_MAX
    replica.execute()
    assert replica.open[-1][0].count == 50


def test_what_was_not_begun_is_handed_back() -> None:
    replica = Replica()
    for client in range(20):
        replica.add(command(7, client))
    returned = replica.intake.return_all()
    assert sum(one.count for one in returned) == 20 - EPAXOS_OPEN_PER_KEY
    assert replica.intake.waiting == 0
    while replica.open:
        replica.execute()


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled_and_clients_keep_their_order(seed: int) -> None:
    rng = Random(seed)
    replica = Replica()
    sent: list[bytes] = []
    seqs = dict.fromkeys(range(6), 0)
    for _ in range(600):
        dice = rng.random()
        if dice < 0.5:
            commands = []
            for _ in range(rng.choice((1, 1, 3))):
                client = rng.randrange(6)
                seqs[client] += 1
                commands.append(command(rng.randrange(3), client, seqs[client], rng.choice((DEPOSIT, BALANCE))))
            sent += commands
            replica.add(*commands)
        elif dice < 0.52:
            replica.intake.set_strict(not replica.intake.is_strict)
            replica.pump()
        elif replica.open:
            replica.execute()
    while replica.open:
        replica.execute()
    assert sorted(replica.began) == sorted(sent)
    assert replica.intake.waiting == 0
    for client in seqs:
        mine = [raw for raw in replica.began if msgspec.msgpack.decode(raw)[1] == client]
        assert mine == [raw for raw in sent if msgspec.msgpack.decode(raw)[1] == client]
