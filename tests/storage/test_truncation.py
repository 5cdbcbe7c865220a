"""Which rows a truncation lets go: never one that speaks of a slot above, never one written with the order."""

from hypothesis import given
from hypothesis import strategies as st
from stores import voted

from paxos_twisted.core.records import Header
from paxos_twisted.limits import TRUNCATE_BYTES, TRUNCATE_ROWS
from paxos_twisted.storage.truncation import Prefix

NOTHING = Header()
row_lists = st.lists(st.tuples(st.integers(-1, 60), st.integers(0, 20), st.sampled_from([50, TRUNCATE_BYTES // 2])))


def prefix_of(rows: list[Header], size: int = 100) -> Prefix:
    prefix = Prefix()
    for seq, header in enumerate(rows, 1):
        prefix.append(seq, header, size)
    return prefix


def drained(prefix: Prefix) -> int:
    while not prefix.is_done:
        before = prefix.deleted
        assert prefix.next_portion() > before
    return prefix.deleted


def test_rows_below_go_and_the_others_stay() -> None:
    rows = [voted(slot).header for slot in range(0, 10 * 3 * TRUNCATE_ROWS, 10)]
    prefix = prefix_of(rows)
    prefix.truncate(10 * TRUNCATE_ROWS - 1, before=len(rows) + 1)
    assert drained(prefix) == TRUNCATE_ROWS


def test_what_the_same_write_repeats_stays() -> None:
    prefix = prefix_of([voted(0).header, NOTHING, NOTHING])
    prefix.truncate(9, before=2)
    assert drained(prefix) == 1


def test_a_row_above_keeps_everything_behind_it() -> None:
    prefix = prefix_of([voted(500).header, voted(0).header])
    prefix.truncate(9, before=3)
    assert prefix.is_done


def test_a_portion_is_small_but_follows_a_log_that_grows_fast() -> None:
    prefix = prefix_of([voted(slot).header for slot in range(0, 100_000, 10)])
    prefix.truncate(99_999, before=10_001)
    assert prefix.next_portion() == TRUNCATE_ROWS
    assert prefix.next_portion(bytes_min=3 * TRUNCATE_ROWS * 100) == 4 * TRUNCATE_ROWS


def test_a_portion_of_large_rows_is_small_in_bytes() -> None:
    prefix = prefix_of([voted(slot).header for slot in range(0, 1000, 10)], size=TRUNCATE_BYTES // 4)
    prefix.truncate(999, before=101)
    assert prefix.next_portion() == 4


@given(row_lists, st.lists(st.tuples(st.integers(-1, 80), st.integers(0, 5)), max_size=4))
def test_never_more_than_the_obvious_rule_allows(
    rows: list[tuple[int, int, int]], orders: list[tuple[int, int]]
) -> None:
    prefix = Prefix()
    for seq, (slot, count, size) in enumerate(rows, 1):
        prefix.append(seq, Header(slot, count), size)
    allowed = 0
    for truncated, repeated in orders:
        before = max(1, len(rows) + 1 - repeated)
        prefix.truncate(truncated, before)
        ends = [slot + count - 1 for slot, count, _ in rows[: before - 1]]
        below = next((index for index, end in enumerate(ends) if end > truncated), len(ends))
        allowed = max(allowed, below)
        assert drained(prefix) <= allowed
