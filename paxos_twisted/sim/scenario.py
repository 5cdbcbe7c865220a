"""Named scenarios: one story each, played under several seeds. They are in `paxos_twisted.sim.scenarios`."""

import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.small import Limits, small_limits
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.swarm import Run
from paxos_twisted.sim.trace import Trace
from paxos_twisted.sim.workloads import Habits

Story = Callable[["Stage"], None]


class Scenario(msgspec.Struct, frozen=True):
    """A fault and what must hold, from the list in docs/simulator.md."""

    number: int
    name: str
    must_hold: str
    """What is at stake, beside the invariants that always hold."""
    story: Story
    limits: Limits
    engine: str = "multipaxos"
    application: str = "bank"


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    number: int,
    name: str,
    must_hold: str,
    limits: Limits | None = None,
    *,
    engine: str = "multipaxos",
    application: str = "bank",
) -> Callable[[Story], Story]:
    """Register a story."""

    def register(story: Story) -> Story:
        SCENARIOS[name] = Scenario(number, name, must_hold, story, limits or Limits(), engine, application)
        return story

    return register


class Stage:
    """What a story is played on: makes the cluster, and the checks that are its own."""

    def __init__(
        self, seed: int | str, trace: Trace | None, engine: str = "multipaxos", application: str = "bank"
    ) -> None:
        self.seed = seed
        self.engine = engine
        self.application = application
        self.trace = trace
        self.cluster: Cluster | None = None
        self.told: list[str] = []
        """Lines for people: what this run was meant to show."""
        self.rng = Cluster.stream_of(seed, "story")

    def make(self, nodes: int, *, changes: dict[str, Any] | None = None, **options: Any) -> Cluster:
        """A started cluster that takes commands. `changes`: of the settings; `options`: of `Cluster`."""
        subject = SUBJECTS[self.engine]
        cluster = Cluster(
            self.seed,
            nodes=nodes,
            engine=self.engine,
            application=self.application,
            settings=msgspec.structs.replace(subject.settings, **(changes or {})),
            trace=self.trace,
            **options,
        )
        self.cluster = cluster
        cluster.start()
        if subject.has_leader:
            cluster.need_leader()
        links = cluster.network.links.values()
        cluster.run_until(lambda: all(link.is_up for link in links), 2000, "all nodes have met")
        return cluster

    def check(self, holds: bool, text: str) -> None:
        """What this story demands.

        Raises:
            Violation: it does not hold.
        """
        if not holds:
            where = self.cluster.describe() if self.cluster is not None else ""
            raise Violation(f"STORY: {text}. {where}")

    def tell(self, text: str) -> None:
        """Say something to whoever runs this scenario by hand."""
        self.told.append(text)

    def progress(self, cluster: Cluster, requests: int = 5, bound_ms: int | None = None) -> int:
        """Run until `requests` more requests are answered; the time that took."""
        goal = cluster.answered() + requests
        return cluster.run_until(
            lambda: cluster.answered() >= goal, bound_ms or cluster.liveness_ms(), f"{requests} more requests answered"
        )


LOAD = Habits(requests=100_000, think_ms=60, accounts=6)
"""Clients that go on until the story ends."""

PIPELINED = Habits(requests=100_000, think_ms=60, accounts=6, outstanding=8)


def run_scenario(one: Scenario, seed: int | str, trace: Trace | None = None) -> Run:
    """Play a scenario under a seed and report."""
    stage = Stage(f"{one.name}/{seed}", trace, one.engine, one.application)
    run = Run(seed if isinstance(seed, int) else 0)
    with small_limits(one.limits):
        try:
            one.story(stage)
        except Exception as error:  # whatever it is, it belongs to this scenario
            run.error = str(error) if isinstance(error, Violation) else f"CRASH: {error!r}"
            run.where = traceback.format_exc()
    cluster = stage.cluster
    if cluster is not None:
        run.nodes = len(cluster.ids)
        run.slots = len(cluster.model.results)
        run.events = cluster.scheduler.events
        run.leader_changes = cluster.leader_changes()
        run.virtual_ms = cluster.scheduler.now_ms
    if trace is not None:
        run.tail = tuple(trace.tail)
    run.told = tuple(stage.told)
    return run
