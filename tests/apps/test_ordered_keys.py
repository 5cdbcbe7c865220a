"""`OrderedKeys` is a sorted set: the same as sorting everything anew, after any changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps import ordered_keys
from paxos_twisted.apps.ordered_keys import OrderedKeys

KEYS = st.text(st.sampled_from("ab\u00e9\U0001f600"), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(KEYS), st.lists(st.tuples(st.booleans(), KEYS), max_size=120), KEYS, st.booleans(), st.data())
def test_it_is_what_sorting_would_give(
    begin: list[str], changes: list[tuple[bool, str]], start: str, inclusive: bool, data: st.DataObject
) -> None:
    size, ordered_keys.BLOCK_KEYS = ordered_keys.BLOCK_KEYS, data.draw(st.integers(1, 4))  # many small blocks
    try:
        plain = set(begin)
        keys = OrderedKeys(plain)
        for adds, key in changes:
            if adds and key not in plain:
                plain.add(key)
                keys.add(key)
            elif not adds and key in plain:
                plain.remove(key)
                keys.remove(key)
        assert len(keys) == len(plain)
        behind = [key for key in sorted(plain) if key > start or (inclusive and key == start)]
        assert list(keys.after(start, inclusive=inclusive)) == behind
        assert list(keys.after("", inclusive=False)) == sorted(plain)
    finally:
        ordered_keys.BLOCK_KEYS = size


def test_blocks_stay_of_a_bounded_size() -> None:
    keys = OrderedKeys()
    for number in range(5000):
        keys.add(f"{number * 7919 % 5000:05}")
    assert max(map(len, keys._blocks)) <= 2 * ordered_keys.BLOCK_KEYS
    assert list(keys.after("", inclusive=False)) == [f"{number:05}" for number in range(5000)]
    for number in range(5000):
        keys.remove(f"{number:05}")
    assert list(keys.after("", inclusive=True)) == []
