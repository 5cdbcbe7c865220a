"""The second opinions on the applications agree with the applications, whatever the simulator's clients ask for."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.sim.model import Model, ModelError
from paxos_twisted.sim.workloads import WORKLOADS, Habits, Workload
from paxos_twisted.types import ClientId

WORK = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda one: one.name)


def play(workload: Workload, seed: int, requests: int) -> tuple[ReplicatedState, Model]:
    """Requests of five clients, some of them sent again; each stamped with a clock that jumps."""
    rng = random.Random(seed)
    application = workload.application()
    state = ReplicatedState(application, 10**6)
    model = Model(workload.specification(), application.is_reread)
    habits = Habits(accounts=3, own_share=0.2)
    sent: list[Command[object]] = []
    seqs = [0] * 5
    now_ms = 1000
    for slot in range(requests):
        if sent and rng.random() < 0.1:
            command = rng.choice(sent)
        else:
            client = rng.randrange(5)
            seqs[client] += 1
            now_ms += rng.randrange(-100, 300)
            op = application.stamp(workload.draw(rng.random, habits, client), now_ms)
            command = Command(ClientId(client), -1, seqs[client], 1, op)
            sent.append(command)
        (result,) = state.apply(slot, [command])
        model.check(slot, command, result)
    return state, model


@WORK
@given(seed=st.integers(0, 10**6))
def test_the_model_accepts_whatever_the_shipped_application_says(workload: Workload, seed: int) -> None:
    state, model = play(workload, seed, 60)
    model.specification.check(state.application)


@WORK
def test_all_kinds_of_operations_are_drawn(workload: Workload) -> None:
    rng = random.Random(1)
    application = workload.application()
    drawn = {application.op_name(workload.draw(rng.random, Habits(), 0)) for _ in range(500)}
    assert drawn == set(application.op_names) - {"unknown"}


@WORK
def test_operations_on_own_keys_interfere_with_no_others(workload: Workload) -> None:
    """The conflict rate of leaderless engines is a property of the load."""
    rng = random.Random(1)
    application, habits = workload.application(), Habits(own_share=1.0)
    footprint = application.footprint
    if type(application).footprint is Application.footprint:
        pytest.skip(f"{workload.name} does not say what its operations touch: all of them interfere")
    touched = [
        {key for _ in range(200) for key in footprint(workload.draw(rng.random, habits, i)).keys} for i in (1, 2)
    ]
    assert touched[0]
    assert not touched[0] & touched[1]


@WORK
def test_a_replica_that_lacks_a_command_is_noticed(workload: Workload) -> None:
    _, model = play(workload, 7, 60)
    with pytest.raises(ModelError):
        model.specification.check(workload.application())
