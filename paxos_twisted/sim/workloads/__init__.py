"""The applications in the simulator, by the name that the cluster configuration gives them."""

from typing import Final

from paxos_twisted.sim.workloads.auction import AuctionWorkload
from paxos_twisted.sim.workloads.bank import BankWorkload
from paxos_twisted.sim.workloads.chat import ChatWorkload
from paxos_twisted.sim.workloads.kv import KvWorkload
from paxos_twisted.sim.workloads.workload import Habits, Workload

WORKLOADS: Final[dict[str, Workload]] = {
    one.name: one for one in (AuctionWorkload(), BankWorkload(), ChatWorkload(), KvWorkload())
}

__all__ = ["WORKLOADS", "Habits", "Workload"]
