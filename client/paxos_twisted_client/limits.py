"""Every bound of the client in one place, where the number comes from, and what happens at it."""

from typing import Final

from paxos_twisted.limits import NODES_MAX, SESSION_WINDOW

HOPS_MAX: Final = 2 * NODES_MAX
"""Nodes asked in one round of looking for the leader. After them the client pauses, however the nodes redirect."""

ADDRESSES_MAX: Final = 4 * NODES_MAX
"""Addresses in `--nodes` or in a cluster file: a cluster, and some that are left over from an older one."""

OUTSTANDING_MAX: Final = SESSION_WINDOW
"""Unanswered requests of one session. `Session.submit` raises beyond it."""

MOVES_KEPT: Final = 10_000
"""Moves from one node to another that a pool remembers for its report. The oldest are forgotten; counts stay."""

STEPS_KEPT: Final = 10_000
"""Steps on the way to the leader that a pool remembers for histories and reports. The oldest are forgotten."""

RESEND_FACTOR: Final = 3
"""A request whose connection talks to us but never about it is repeated after this many read timeouts."""

HISTORY_BUFFER_BYTES: Final = 1024 * 1024
"""A history is written to its file in pieces of this size."""

BENCH_REQUESTS_MAX: Final = 100_000_000
"""Requests per client in one bench: eight bytes each are kept for the statistics."""

BENCH_KEYS_MAX: Final = 1_000_000
"""Keys in the bench of the key-value store: their weights are kept in memory (about 36 MB)."""

BENCH_CLIENTS_MAX: Final = 4096
"""Clients in one bench: as many as one node accepts connections."""
