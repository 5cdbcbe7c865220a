"""The bench of the key-value store draws what its options say, and the same again for the same seed."""

from collections import Counter
from typing import Any

import pytest
from paxos_twisted_client.kv_workload import HOT_KEY, KvWorkload, zipf_ranks
from paxos_twisted_client.kvclient import KV

from paxos_twisted.apps.kv import CompareAndSet, Get, KvOp, List, Put

DRAWS = 20_000
GIVEN: dict[str, Any] = dict.fromkeys(("reads", "mix", "distribution", "skew", "conflicts"))


def draw(process: int = 0, count: int = DRAWS, seed: int = 5, **given: Any) -> list[KvOp]:
    options = KV.workload_of(GIVEN | {"keys": 100, "value_size": 20} | given)
    workload = KV.workload(seed, process, options)
    return [workload.next() for _ in range(count)]


def share(ops: list[KvOp], kind: type) -> float:
    return sum(isinstance(op, kind) for op in ops) / len(ops)


def keys_of(ops: list[KvOp]) -> Counter[str]:
    return Counter(op.key for op in ops if not isinstance(op, List))


@pytest.mark.parametrize("reads", [0, 20, 50, 100])
def test_reads_and_writes(reads: int) -> None:
    assert share(draw(reads=reads), Get) == pytest.approx(reads / 100, abs=0.02)


def test_a_mix_of_everything() -> None:
    mix = {"get": 30.0, "put": 30.0, "delete": 10.0, "cas": 20.0, "list": 10.0}
    names = Counter(type(op).__name__ for op in draw(mix=mix))
    assert {name: round(count / DRAWS, 1) for name, count in names.items()} == {
        "Get": 0.3, "Put": 0.3, "Delete": 0.1, "CompareAndSet": 0.2, "List": 0.1,
    }  # fmt: skip
    assert KV.workload_of(GIVEN | {"keys": 1, "value_size": 1, "mix": {"put": 100.0}})["mix"] == {"put": 100.0}


def test_uniform_keys_are_all_drawn_alike() -> None:
    counts = keys_of(draw())
    assert counts.keys() == {f"k{number}" for number in range(100)}
    expected = DRAWS / 100
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 149  # 99 degrees of freedom, 0.1 %


def test_zipf_keys_follow_the_law() -> None:
    counts = keys_of(draw(distribution="zipf", skew=1.0))
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (1, 2, 10, 50):
        assert counts[f"k{rank - 1}"] / DRAWS == pytest.approx(1 / rank / harmonic, rel=0.2)
    assert KV.workload_of(GIVEN | {"keys": 1, "value_size": 1, "distribution": "zipf"})["skew"] == 0.99


def test_weights_are_cumulated_integers() -> None:
    ranks = zipf_ranks(4, 1.0)
    assert ranks[0] == 2**32
    assert ranks == tuple(sorted(ranks))
    assert zipf_ranks(3, 5.0)[-1] < 2**33


@pytest.mark.parametrize("conflicts", [0, 2, 50, 100])
def test_conflicts_are_on_one_key_and_nowhere_else(conflicts: int) -> None:
    ours, theirs = keys_of(draw(0, conflicts=conflicts)), keys_of(draw(1, conflicts=conflicts))
    assert ours[HOT_KEY] / DRAWS == pytest.approx(conflicts / 100, abs=0.02)
    assert ours.keys() & theirs.keys() <= {HOT_KEY}


def test_values_have_their_size_and_are_written_once() -> None:
    values = [op.value for op in draw() if isinstance(op, Put)]
    assert {len(value) for value in values} == {20}
    assert len(set(values)) == len(values)
    assert {len(op.value) for op in draw(count=100, reads=0, value_size=0) if isinstance(op, Put)} == {0}


def test_comparisons_expect_what_was_written_or_nothing() -> None:
    expected = [op.expected for op in draw(mix={"put": 50.0, "cas": 50.0}) if isinstance(op, CompareAndSet)]
    assert 0.4 < sum(one is None for one in expected) / len(expected) < 0.6


def test_the_same_seed_draws_the_same_and_clients_differ() -> None:
    assert draw(count=100) == draw(count=100)
    assert draw(count=100) != draw(process=1, count=100)
    assert draw(count=100) != draw(count=100, seed=6)


def test_a_seed_means_the_same_for_ever() -> None:
    """Recorded runs are replayed by their seed: a change here breaks them."""
    assert draw(count=4, distribution="zipf") == FIRST


FIRST: list[KvOp] = [
    Get(key="k0"),
    Get(key="k1"),
    Put(key="k21", value=b"0.1 ................"),
    Put(key="k65", value=b"0.2 ................"),
]


def test_it_is_the_workload_of_kvclient() -> None:
    assert isinstance(KV.workload(1, 0, {"mix": {"get": 100.0}, "keys": 1, "value_size": 0}), KvWorkload)
