"""The named scenarios, by what breaks. Importing this package registers them all.

Not here: 32 to 36 (membership), 39 and 40 (leases and quorum reads) are for the issues that bring those features; 37
(nodes with different alpha) is refused by the handshake and is tested there, in tests/net.
"""

from paxos_twisted.sim.scenario import SCENARIOS
from paxos_twisted.sim.scenarios import crashes, disks, epaxos, links, messages, primary_backup, snapshots

__all__ = ["SCENARIOS", "crashes", "disks", "epaxos", "links", "messages", "primary_backup", "snapshots"]
