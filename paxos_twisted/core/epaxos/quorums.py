"""How many replicas must agree, and which ones are asked first. [EP 4.2; EP* section 3]

            N   F   slow F+1   fast F + floor((F+1)/2)   e = N - fast
            3   1      2              2                      1
            5   2      3              3                      2
            7   3      4              5                      2
            9   4      5              6                      3

Both count the owner. `e` is how many replicas may fail while the fast path stays possible.
"""


def slow_quorum(n: int) -> int:
    """Any two of this size meet: a majority."""
    return n // 2 + 1


def fast_quorum(n: int) -> int:
    """As many must have pre-accepted exactly what the owner sent ("N/2 answers" is too few from N = 7 on)."""
    f = n // 2
    return max(f + (f + 1) // 2, 1)


def thrifty_peers(replica: int, n: int) -> tuple[int, ...]:
    """The replicas that get the PreAccepts of `replica` when sending is thrifty: the next ones in the order of numbers,
    around, as many as a fast quorum needs besides the owner.

    Replicas are numbered from 0, and `n` is how many there are: thrifty_peers(0, 5) == (1, 2).

    Raises:
        ValueError: there is no such replica, or `n` is not odd.
    """
    if n < 1 or n % 2 == 0:
        raise ValueError(f"{n} replicas: it must be an odd number")
    if not 0 <= replica < n:
        raise ValueError(f"there is no replica {replica} among {n}; they are numbered from 0")
    return tuple((replica + step) % n for step in range(1, fast_quorum(n)))


def accept_peers(replica: int, n: int) -> tuple[int, ...]:
    """The same for Accepts: the next F."""
    return tuple((replica + step) % n for step in range(1, slow_quorum(n)))
