"""Whole engines in a small world: paths, quorums, crashes, restarts, recoveries, and random histories. EA, EV and EX
are checked after every step, LIV at the end (see `mini_cluster`)."""

import msgspec
import pytest
from mini_cluster import SETTINGS, MiniCluster

from paxos_twisted.apps.bank import BALANCE
from paxos_twisted.core.command import NOOP
from paxos_twisted.core.engine import DiskState
from paxos_twisted.core.epaxos.messages import (
    Accept,
    Commit,
    Heartbeat,
    HeartbeatReply,
    PreAccept,
    PreAcceptReply,
    Prepare,
)

WIDE = msgspec.structs.replace(SETTINGS, thrifty=False)


def warm(n: int, seed: int = 1, thrifty: bool = True) -> MiniCluster:
    cluster = MiniCluster(n, seed, SETTINGS if thrifty else WIDE)
    cluster.warm_up()
    cluster.keeps_sent = True
    cluster.sent.clear()
    return cluster


def sent(cluster: MiniCluster, kind: type) -> list[tuple[int, int]]:
    return [(src, dst) for src, dst, message in cluster.sent if isinstance(message, kind)]


def counter(cluster: MiniCluster, name: str) -> int:
    return sum(machine.engine.counters[name] for machine in cluster.machines.values() if machine.engine)


@pytest.mark.parametrize("n", [3, 5, 7])
def test_without_conflicts_one_round_trip_commits_everywhere(n: int) -> None:
    cluster = warm(n)
    for node in cluster.nodes:
        cluster.propose(node, cluster.command(node))
    cluster.deliver_all()
    cluster.settle()
    assert (counter(cluster, "fast"), counter(cluster, "slow"), counter(cluster, "recovered")) == (n, 0, 0)
    assert sent(cluster, Accept) == []
    assert {deps for _, deps, _ in cluster.decided.values()} == {(-1,) * n}


def test_conflicting_proposals_at_once_take_the_slow_path_once_or_twice_and_know_each_other() -> None:
    cluster = warm(5)
    cluster.propose(1, cluster.command(7))
    cluster.propose(4, cluster.command(7))
    cluster.settle()
    assert counter(cluster, "slow") >= 1
    first, second = cluster.decided[0, 0], cluster.decided[3, 0]
    assert first[1][3] == 0 or second[1][0] == 0


def test_conflicting_proposals_one_after_the_other_both_take_the_fast_path() -> None:
    """The course's first replay: two conflicting writes, at replicas 0 and 3 of five."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(7))
    cluster.deliver_all()
    cluster.propose(4, cluster.command(7))
    cluster.settle()
    assert (counter(cluster, "fast"), counter(cluster, "slow")) == (2, 0)
    assert cluster.decided[3, 0][1:] == ((0, -1, -1, -1, -1), 2)


def test_the_same_with_paused_commits_takes_the_slow_path() -> None:
    """The second replay: replica 3 has not heard of the first write, its peers have."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(7))
    cluster.deliver_all((PreAccept, PreAcceptReply))
    cluster.propose(4, cluster.command(7))
    cluster.deliver_all((PreAccept, PreAcceptReply, Accept))
    cluster.settle()
    assert (counter(cluster, "fast"), counter(cluster, "slow")) == (1, 1)


def test_a_read_waits_for_the_write_that_it_depends_on() -> None:
    """The third replay: a write at replica 0, commits held, a read at 2. It is answered after the write's execution."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(7))
    cluster.deliver_all((PreAccept, PreAcceptReply))
    cluster.propose(3, cluster.command(7, BALANCE))
    held = [one for one in cluster.flight if isinstance(one[2], Commit)]
    cluster.flight = [one for one in cluster.flight if one not in held]
    cluster.deliver_all()
    reader = cluster.machines[3].engine
    assert reader is not None
    assert cluster.decided[2, 0][1][0] == 0
    assert reader.grid.executed == (-1,) * 5
    cluster.flight += held
    cluster.settle()
    assert reader.grid.executed[2] == 0


def test_thrifty_sends_to_the_next_replicas_only_and_tells_all() -> None:
    cluster = warm(5)
    cluster.propose(4, cluster.command(1))
    cluster.settle()
    assert sent(cluster, PreAccept) == [(4, 5), (4, 1)]
    assert sorted(sent(cluster, Commit)) == [(4, 1), (4, 2), (4, 3), (4, 5)]
    bodies = {dst: message.body is not None for _, dst, message in cluster.sent if isinstance(message, Commit)}
    assert bodies == {1: False, 5: False, 2: True, 3: True}


def test_without_thrift_all_are_asked() -> None:
    cluster = warm(5, thrifty=False)
    cluster.propose(4, cluster.command(1))
    cluster.settle()
    assert sorted(sent(cluster, PreAccept)) == [(4, 1), (4, 2), (4, 3), (4, 5)]


@pytest.mark.parametrize("n", [3, 5, 7])
def test_a_chosen_replica_that_is_down_does_not_block(n: int) -> None:
    cluster = warm(n)
    cluster.machines[2].crash()
    cluster.propose(1, cluster.command(1))
    cluster.settle()
    assert counter(cluster, "thrifty_fallbacks") >= 1
    assert (0, 0) in cluster.decided


def test_seven_replicas_do_not_commit_fast_with_four() -> None:
    """Scenario 67: four equal answers, the owner's included, are a majority of seven and no fast quorum."""
    cluster = warm(7)
    for node in (5, 6, 7):
        cluster.machines[node].crash()
    cluster.propose(1, cluster.command(1))
    cluster.settle()
    assert (counter(cluster, "fast"), counter(cluster, "slow")) == (0, 1)


def test_preaccepts_leave_and_votes_count_only_when_durable() -> None:
    cluster = warm(3)
    cluster.propose(1, cluster.command(1))
    assert sent(cluster, PreAccept) == []
    cluster.machines[1].sync()
    assert sent(cluster, PreAccept) == [(1, 2)]
    cluster.deliver(next(i for i, one in enumerate(cluster.flight) if isinstance(one[2], PreAccept)))
    assert sent(cluster, PreAcceptReply) == []
    cluster.machines[2].sync()
    assert sent(cluster, PreAcceptReply) == [(2, 1)]
    cluster.deliver(next(i for i, one in enumerate(cluster.flight) if isinstance(one[2], PreAcceptReply)))
    assert cluster.decided == {}, "the owner's decision on the fast path must be durable before it counts"
    cluster.machines[1].sync()
    assert list(cluster.decided) == [(0, 0)]


def test_owner_dies_after_its_fast_commit_and_the_recovered_value_is_the_same() -> None:
    """Scenario 56: nobody has heard the Commit, and the owner had executed (and answered)."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(1))
    cluster.deliver_all((PreAccept, PreAcceptReply))
    assert cluster.machines[1].engine.grid.executed[0] == 0  # type: ignore[union-attr]
    cluster.machines[1].crash()
    cluster.flight.clear()
    cluster.settle()
    assert counter(cluster, "recovered") >= 1
    assert cluster.decided[0, 0][0] != NOOP
    cluster.heal()
    cluster.settle()


def test_owner_restarts_after_its_fast_commit_and_does_not_deny_it() -> None:
    """The owner is asked for its own instance after a restart. It must not look as if it had not committed."""
    cluster = warm(3)
    cluster.propose(1, cluster.command(1))
    cluster.deliver_all((PreAccept, PreAcceptReply))
    cluster.machines[1].crash()
    cluster.flight.clear()
    cluster.machines[2].crash()
    cluster.machines[1].start()
    cluster.settle()
    assert cluster.decided[0, 0][0] != NOOP


def test_owner_dies_after_one_preaccept_and_its_slot_becomes_free_for_all() -> None:
    """Scenario 55. What was never decided may be done or not; afterwards everything goes on."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(1))
    cluster.sync_all()
    cluster.deliver(next(i for i, one in enumerate(cluster.flight) if isinstance(one[2], PreAccept)))
    cluster.machines[1].crash()
    cluster.flight = [one for one in cluster.flight if not isinstance(one[2], PreAccept)]
    cluster.propose(3, cluster.command(1))
    cluster.settle()
    assert {(0, 0), (2, 0)} <= cluster.decided.keys()


def test_commands_of_an_instance_that_became_a_noop_are_proposed_again() -> None:
    """Scenario 60: the owner was cut off, and the others have filled its slot."""
    cluster = warm(3)
    command = cluster.command(1)
    cluster.propose(1, command)
    cluster.machines[1].sync()
    lost = [one for one in cluster.flight if isinstance(one[2], PreAccept)]
    cluster.flight = [one for one in cluster.flight if one not in lost]
    engine = cluster.machines[3].engine
    assert engine is not None
    engine._recover(engine.grid.at(0, 0, engine.now_ms))
    cluster.machines[3].drain()
    cluster.settle()
    assert cluster.decided[0, 0][0] == NOOP
    assert cluster.decided[0, 1][0] == command
    assert counter(cluster, "proposed_again") == 1


def test_no_slot_is_used_twice_after_a_restart() -> None:
    """Scenario 65: the owner restarts just after its PreAccept has left."""
    cluster = warm(3)
    cluster.propose(1, cluster.command(1))
    cluster.machines[1].sync()
    cluster.machines[1].crash()
    cluster.machines[1].start()
    cluster.settle()
    cluster.warm_up()
    cluster.propose(1, cluster.command(2))
    cluster.settle()
    assert {(0, 0), (0, 1)} <= cluster.decided.keys()


def test_a_slot_that_others_have_heard_of_before_a_crash_is_skipped() -> None:
    """The instance was not durable, but a heartbeat had told of it, and it is recovered before the owner goes on."""
    cluster = warm(3)
    cluster.propose(1, cluster.command(1))
    cluster.tick()
    cluster.deliver_all((Heartbeat, HeartbeatReply)) if not cluster.machines[1].unsynced else None
    for index in reversed(range(len(cluster.flight))):
        if isinstance(cluster.flight[index][2], Heartbeat):
            cluster.deliver(index)
    cluster.machines[1].crash()
    cluster.machines[1].start()
    cluster.settle()
    cluster.warm_up()
    cluster.propose(1, cluster.command(2))
    cluster.settle()
    assert all(
        value[0] != NOOP for here, value in cluster.decided.items() if here[1] == max(s for _, s in cluster.decided)
    )


def test_a_majority_lost_means_no_service_and_unknown_outcomes() -> None:
    cluster = warm(3)
    cluster.propose(1, cluster.command(1))
    cluster.machines[2].crash()
    cluster.machines[3].crash()
    cluster.run(100)
    engine = cluster.machines[1].engine
    assert engine is not None
    assert not engine.is_serving
    assert engine.leader == -1
    assert [returned.proposed for returned in cluster.returned] == [True]
    cluster.heal()
    cluster.settle()
    cluster.warm_up()
    assert engine.leader == 1


def test_a_full_disk_votes_for_nothing_and_says_so() -> None:
    cluster = warm(3)
    engine = cluster.machines[2].engine
    assert engine is not None
    engine.on_disk(DiskState.FULL)
    cluster.machines[2].drain()
    cluster.propose(2, cluster.command(1))
    cluster.propose(1, cluster.command(2))
    cluster.run(600)
    assert list(cluster.decided) == [(0, 0)]
    assert not any(src == 2 and isinstance(message, PreAcceptReply) for src, _, message in cluster.sent)
    engine.on_disk(DiskState.GOOD)
    cluster.settle()


def test_a_replica_that_was_away_gets_what_it_missed() -> None:
    cluster = warm(5)
    cluster.machines[5].crash()
    for turn in range(60):
        cluster.propose(1 + turn % 4, cluster.command(turn % 5))
        cluster.run(20)
    cluster.heal()
    cluster.settle()
    assert cluster.machines[5].engine.position == 59  # type: ignore[union-attr]
    assert counter(cluster, "recovered_noop") == 0


def test_components_and_open_instances_stay_bounded_on_a_hot_key() -> None:
    """Scenario 62: a hot key, an open load at every replica, in turns that are shorter than a round trip."""
    cluster = warm(5)
    for _ in range(300):
        for node in cluster.nodes:
            cluster.propose(node, cluster.command(1))
        for _ in range(12):
            if cluster.flight:
                cluster.deliver(cluster.rng.randrange(min(len(cluster.flight), 8)))
        cluster.sync_all()
        if cluster.rng.random() < 0.3:
            cluster.tick()
    open_ones = [machine.engine.own_open for machine in cluster.machines.values() if machine.engine]
    assert max(open_ones) <= 8
    cluster.settle(20_000)
    sizes = [size for machine in cluster.machines.values() for size in machine.engine.component_sizes]  # type: ignore[union-attr]
    assert max(sizes) <= 8 * 5
    executed = {machine.engine.position + 1 for machine in cluster.machines.values() if machine.engine}
    assert len(executed) == 1
    handed_back = sum(returned.batch.count for returned in cluster.returned if not returned.proposed)
    assert executed.pop() >= len(cluster.proposed) - handed_back


def test_prepares_of_two_recoverers_end_with_one_value() -> None:
    """Scenario 57: competing ballots."""
    cluster = warm(5)
    cluster.propose(1, cluster.command(1))
    cluster.deliver_all((PreAccept,))
    cluster.machines[1].crash()
    cluster.flight.clear()
    for node in (2, 4, 5):
        engine = cluster.machines[node].engine
        assert engine is not None
        engine._recover(engine.grid.at(0, 0, engine.now_ms))
        cluster.machines[node].drain()
    assert len(sent(cluster, Prepare)) >= 0
    cluster.settle()
    assert (0, 0) in cluster.decided


@pytest.mark.parametrize("seed", range(9))
def test_random_histories(seed: int) -> None:
    """Messages lost, repeated and reordered, crashes that lose what was not synced; then all faults end."""
    cluster = MiniCluster((3, 5, 7)[seed % 3], seed, SETTINGS if seed % 2 else WIDE)
    accounts = (3, 40)[seed // 3 % 2]
    for _ in range(700):
        cluster.step(accounts=accounts)
    cluster.heal()
    cluster.settle()
