"""The engines in the simulator, by the name that the cluster configuration gives them."""

from typing import Final

from paxos_twisted.sim.subjects.epaxos import EPaxosSubject
from paxos_twisted.sim.subjects.multipaxos import MultiPaxosSubject
from paxos_twisted.sim.subjects.primary_backup import PrimaryBackupSubject
from paxos_twisted.sim.subjects.subject import Subject

SUBJECTS: Final[dict[str, Subject]] = {
    one.name: one for one in (MultiPaxosSubject(), EPaxosSubject(), PrimaryBackupSubject())
}

__all__ = ["SUBJECTS", "Subject"]
