"""The shipped code with one safety rule switched off, to see whether the simulator notices.

Each mutant patches a method of the shipped classes in this process, and nothing else. It is caught when some seed, run
under it, breaks an invariant. A checker that no mutant ever wakes is no checker; a rule that can be switched off
without being noticed is not tested. The mutants themselves are in `paxos_twisted.sim.mutants`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from paxos_twisted.net.faults import Rule
from paxos_twisted.sim.nemesis import Mix
from paxos_twisted.sim.scenario import run_scenario
from paxos_twisted.sim.scenarios import SCENARIOS
from paxos_twisted.sim.small import Limits
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.swarm import Plan, Run, World, draw_plan, run_seed

Patch = Callable[[Callable[[Any, str, Any], None]], None]


class Mutant(msgspec.Struct, frozen=True):
    """One rule, and how to switch it off."""

    name: str
    rule: str
    """What the shipped code does, in one sentence."""
    patch: Patch
    """Is called with `set(owner, name, value)`."""
    seeds_max: int = 40
    """Seeds after which it must have been caught."""
    stress: str = ""
    """What its runs have more of than others, see `plan_for`; "" for nothing."""
    scenario: str = ""
    """Its runs are those of this named scenario instead."""
    engine: str = "multipaxos"
    nodes: int = 0
    """0: drawn from the seed."""
    is_rare: bool = False
    """Takes so many seeds that only `paxossim mutants` looks for it, and not the tests."""

    @property
    def world(self) -> World:
        """What its runs simulate."""
        return World(self.engine, nodes=self.nodes)


MIX_LIMP = Mix(**dict.fromkeys(Mix.__struct_fields__, 0.0) | {"coups": 5.0, "messages": 1.0})

MUTANTS: dict[str, Mutant] = {}


def mutant(
    name: str,
    rule: str,
    seeds_max: int = 40,
    stress: str = "",
    scenario: str = "",
    engine: str = "multipaxos",
    nodes: int = 0,
    is_rare: bool = False,
) -> Callable[[Patch], Patch]:
    """Register a patch."""

    def register(patch: Patch) -> Patch:
        MUTANTS[name] = Mutant(name, rule, patch, seeds_max, stress, scenario, engine, nodes, is_rare)
        return patch

    return register


@contextmanager
def applied(one: Mutant) -> Iterator[None]:
    """The shipped classes with one rule switched off."""
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        one.patch(put)
        yield


def plan_for(one: Mutant, seed: int) -> Plan:
    """The seed's own plan, with more of what this mutant is sensitive to."""
    plan = draw_plan(seed, one.world)
    if one.stress == "rot":
        return msgspec.structs.replace(plan, mix=Mix(rot=4.0), pause_ms=120)
    if one.stress == "snapshots":
        limits = Limits(slots_kept=0, piece_bytes=100, truncate_rows=4)
        mix = msgspec.structs.replace(plan.mix, kill=3.0, partition=4.0)
        return msgspec.structs.replace(plan, snapshot_every=10, limits=limits, mix=mix, pause_ms=120)
    if one.stress == "late promises":
        rules = (
            Rule(kinds=("Promise",), reorder=0.5, reorder_ms=90),
            Rule(kinds=("Promise",), reorder=0.5, reorder_ms=300),
            Rule(kinds=("Promise",), duplicate=0.7, duplicate_ms=800),
        )
        return msgspec.structs.replace(
            plan_for(msgspec.structs.replace(one, stress="limp"), seed), nodes=3, rules=rules
        )
    if one.stress == "limp" and not SUBJECTS[one.engine].has_leader:
        # Owners die with instances that only some have heard of, while others begin what interferes with them.
        mix = msgspec.structs.replace(MIX_LIMP, limp=6.0, coups=0.0, kill=1.0)
        habits = msgspec.structs.replace(
            plan.habits, outstanding=4, think_ms=5, accounts=2, own_share=0.0, requests=2 * plan.habits.requests
        )
        return msgspec.structs.replace(plan, nodes=5, habits=habits, mix=mix, pause_ms=60, limits=Limits())
    if one.stress == "limp":
        settings = msgspec.structs.replace(plan.settings, alpha=max(8, plan.settings.alpha))
        habits = msgspec.structs.replace(plan.habits, outstanding=4, think_ms=5, requests=2 * plan.habits.requests)
        return msgspec.structs.replace(
            plan,
            nodes=5,
            settings=settings,
            habits=habits,
            mix=MIX_LIMP,
            pause_ms=300,
            limits=Limits(),
        )
    if one.stress == "sessions":
        limits = msgspec.structs.replace(plan.limits, sessions_per_shard=1, shards=2)
        mix = msgspec.structs.replace(plan.mix, messages=8.0, partition=4.0)
        return msgspec.structs.replace(plan, limits=limits, session_expiry=10, clients=6, mix=mix, pause_ms=80)
    if one.stress == "series":
        habits = msgspec.structs.replace(
            plan.habits, series_share=0.8, series_length_max=4, outstanding=4, think_ms=5, accounts=2, own_share=0.0
        )
        return msgspec.structs.replace(plan, habits=habits)
    if one.stress == "amnesia":
        return msgspec.structs.replace(plan, mix=Mix(amnesia=2.0), pause_ms=150)
    if one.stress == "crashes":
        return msgspec.structs.replace(plan, mix=Mix(kill=4.0, power=4.0, power_all=1.0), pause_ms=100)
    return plan


def hunt(one: Mutant, first_seed: int = 0, seeds_max: int | None = None) -> tuple[int, Run] | None:
    """Run seeds under a mutant until one notices. Returns how many it took, and that run; None: not caught."""
    with applied(one):
        for count in range(1, (seeds_max or one.seeds_max) + 1):
            seed = first_seed + count - 1
            if one.scenario:
                run = run_scenario(SCENARIOS[one.scenario], seed)
            else:
                run = run_seed(seed, plan=plan_for(one, seed))
            if run.error:
                return count, run
    return None
