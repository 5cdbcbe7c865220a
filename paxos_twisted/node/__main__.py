"""`python -m paxos_twisted.node` is `paxosnode`."""

from paxos_twisted.node.options import main

main()
