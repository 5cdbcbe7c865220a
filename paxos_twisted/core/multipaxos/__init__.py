"""Multi-Paxos: the three roles, their messages, and the engine that joins them."""

from paxos_twisted.core.multipaxos.acceptor import Acceptor
from paxos_twisted.core.multipaxos.learner import Learner
from paxos_twisted.core.multipaxos.messages import Accept, Decision, Learn, Prepare, Promise, Vote
from paxos_twisted.core.multipaxos.proposer import Proposer
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.multipaxos.settings import Settings

__all__ = [
    "Accept",
    "Acceptor",
    "Decision",
    "Learn",
    "Learner",
    "MultiPaxos",
    "Prepare",
    "Promise",
    "Proposer",
    "Settings",
    "Vote",
]
