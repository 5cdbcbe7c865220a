"""EPaxos: the leaderless engine. Every replica proposes; what does not interfere commits in one round trip.

Commit and recovery follow EPaxos* (Ryabinin, Gotsman, Sutra 2025), the variant whose recovery is proved.
`docs/epaxos.md` tells how, and in what it differs from the original.
"""

from paxos_twisted.core.epaxos.execution import execution_order
from paxos_twisted.core.epaxos.quorums import fast_quorum, slow_quorum, thrifty_peers
from paxos_twisted.core.epaxos.replica import EPaxos
from paxos_twisted.core.epaxos.settings import Settings

__all__ = ["EPaxos", "Settings", "execution_order", "fast_quorum", "slow_quorum", "thrifty_peers"]
