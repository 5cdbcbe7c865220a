"""Tells twistd about `paxosnode`. One line, so that listing plugins imports nothing heavy."""

from twisted.application.service import ServiceMaker

paxosnode = ServiceMaker(
    "paxosnode", "paxos_twisted.node.options", "A replica of a Paxos-Twisted cluster.", "paxosnode"
)
