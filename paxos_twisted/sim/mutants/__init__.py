"""The mutants, by engine. Importing this package registers them all. How they are run: `paxos_twisted.sim.mutation`."""

from paxos_twisted.sim.mutants import epaxos, multipaxos, primary_backup
from paxos_twisted.sim.mutation import MUTANTS, hunt

__all__ = ["MUTANTS", "epaxos", "hunt", "multipaxos", "primary_backup"]
