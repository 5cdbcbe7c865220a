"""Ways to break the protocols, one rule each: the simulator notices every one, within a stated number of runs."""

import pytest

from paxos_twisted.core.multipaxos.acceptor import Acceptor
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.sim.mutants import MUTANTS
from paxos_twisted.sim.mutation import Mutant, applied, hunt, plan_for
from paxos_twisted.sim.swarm import run_seed

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("one", [one for one in MUTANTS.values() if not one.is_rare], ids=lambda one: one.name)
def test_caught(one: Mutant) -> None:
    found = hunt(one)
    assert found is not None, f"{one.name} ({one.rule}) was not noticed in {one.seeds_max} seeds"


@pytest.mark.parametrize(("engine", "stress"), sorted({(one.engine, one.stress) for one in MUTANTS.values()}))
def test_the_same_runs_are_clean_without_a_mutant(engine: str, stress: str) -> None:
    """What catches a mutant must be the mutant, not the kind of run."""
    one = next(one for one in MUTANTS.values() if (one.engine, one.stress) == (engine, stress))
    for seed in range(8 if engine == "multipaxos" else 4):
        run = run_seed(seed, plan=plan_for(one, seed))
        assert not run.error, f"seed {seed}: {run.error}"


def test_there_are_enough() -> None:
    engines = [one.engine for one in MUTANTS.values()]
    assert engines.count("multipaxos") >= 25
    assert engines.count("epaxos") >= 20
    assert engines.count("primary-backup") >= 10


def test_a_mutant_is_put_right_again() -> None:
    before = (Acceptor.handle_accept, MultiPaxos._send_after, MultiPaxos._to_self)
    for one in MUTANTS.values():
        with applied(one):
            pass
    assert (Acceptor.handle_accept, MultiPaxos._send_after, MultiPaxos._to_self) == before
