"""Sessions where replicas apply commands in different orders: counted in generations, and gone at barriers only."""

import msgspec
import pytest

from paxos_twisted.apps.bank import DEPOSIT, Bank, BankOp
from paxos_twisted.core import sessions
from paxos_twisted.core.command import BARRIER, Barrier, Command, array_of
from paxos_twisted.core.replicated import ENGINE_PART, ReplicatedState, engine_part_of, is_refusal, pieces_of


def state(expiry: int = 10**6) -> ReplicatedState:
    return ReplicatedState(Bank(), expiry, is_ordered=False)


def command(client: int, seq: int = 1, birth: int = 0, account: int = 1) -> Command[BankOp]:
    return Command(client, birth, seq, 1, BankOp(DEPOSIT, account, 1))


def run(one: ReplicatedState, *commands: object) -> list[object]:
    raw = b"".join(BARRIER if isinstance(each, Barrier) else msgspec.msgpack.encode(each) for each in commands)
    return one.apply(one.applied + 1, one.decoder.decode(array_of(raw, len(commands))))


def digest(one: ReplicatedState) -> str:
    picture = one.photograph()
    while picture.next_piece() is not None:
        pass
    return picture.digest()


def test_replicas_that_apply_independent_commands_in_other_orders_hold_the_same() -> None:
    one, other = state(), state()
    commands = [command(client, account=client) for client in range(40)]
    run(one, *commands)
    run(other, *reversed(commands))
    assert digest(one) == digest(other)
    run(one, Barrier(), command(99))
    run(other, Barrier(), command(99))
    assert digest(one) == digest(other)
    assert one.birth == other.birth == 1


def test_where_there_is_one_order_positions_count_as_before() -> None:
    ordered = ReplicatedState(Bank(), 10**6)
    ordered.apply(0, [command(1, birth=-1)])
    assert ordered.birth == ordered.applied == 0
    assert ordered.sessions.table.shard(1)[1].active == 0
    assert not ordered.wants_barrier


def test_a_session_goes_after_generations_of_silence_and_its_late_retry_is_refused() -> None:
    one = state()
    (first,) = run(one, command(7))
    run(one, *(Barrier() for _ in range(sessions.GENERATIONS_KEPT)))
    (again,) = run(one, command(7))
    assert again == first
    run(one, Barrier())
    assert len(one.sessions) == 0
    (refused,) = run(one, command(7))
    assert is_refusal(refused)
    assert len(run(one, command(8, birth=one.birth))) == 1
    assert len(one.sessions) == 1


def test_a_session_born_in_the_last_generation_of_the_evicted_one_is_taken_for_it() -> None:
    """Birth and last activity may be the same generation: the horizon lies one above."""
    one = state()
    run(one, command(7, birth=0))
    run(one, *(Barrier() for _ in range(sessions.GENERATIONS_KEPT + 1)))
    (refused,) = run(one, command(7, seq=2, birth=0))
    assert is_refusal(refused)


def test_a_full_part_of_the_table_is_trimmed_at_the_barrier_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_PER_SHARD_MAX", 3)
    one, other = state(), state()
    clients = [sessions.SHARDS * number for number in range(1, 8)]
    run(one, *(command(client, account=client) for client in clients))
    run(other, *(command(client, account=client) for client in reversed(clients)))
    assert len(one.sessions) == 7
    for each in (one, other):
        run(each, Barrier())
    assert len(one.sessions) == 3
    assert digest(one) == digest(other)


def test_a_barrier_is_wanted_after_enough_commands_or_new_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    one = state(expiry=sessions.GENERATIONS_KEPT * 5)
    run(one, *(command(1, seq) for seq in range(1, 5)))
    assert not one.wants_barrier
    run(one, command(1, 5))
    assert one.wants_barrier
    run(one, Barrier())
    assert not one.wants_barrier
    monkeypatch.setattr(sessions, "SESSIONS_OPENED_MAX", 2)
    run(one, command(2), command(3))
    assert one.wants_barrier


def test_the_engines_part_travels_in_the_snapshot_and_state_digests_do_not_know_it() -> None:
    one = state()
    run(one, *(command(client) for client in range(5)))
    part = bytes(range(256)) * 3000
    picture = one.photograph()
    picture.add_engine_part(part)
    pieces = []
    while (piece := picture.next_piece()) is not None:
        pieces.append(piece)
    assert engine_part_of(pieces) == part
    assert engine_part_of(list(pieces_of(one))) == b""
    other = state()
    other.install(one.applied, pieces, picture.digest())
    assert other.engine_part == part
    assert digest(other) == digest(one)
    assert ENGINE_PART == 255
