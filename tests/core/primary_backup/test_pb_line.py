"""Primary-backup under random delivery, crashes and restarts: one line of commands, and no answered one is lost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pb_world import World  # type: ignore[import-not-found]


def storm(world: World, rng: random.Random, steps: int) -> None:
    """Anything that may happen, in any order; mostly what keeps a cluster going, or nothing would be at stake."""
    for _ in range(steps):
        chance = rng.random()
        node = rng.choice(world.ids)
        if chance < 0.62:
            if world.under_way:
                index = 0 if rng.random() < 0.85 else rng.randrange(len(world.under_way))
                world.deliver(index, keep=rng.random() < 0.03)
        elif chance < 0.63:
            if world.under_way:
                world.under_way.pop(rng.randrange(len(world.under_way)))
        elif chance < 0.83:
            world.write(node)
        elif chance < 0.90:
            world.tick(node, rng.choice((5, 20, 60)))
        elif chance < 0.99:
            if node in world.running and world[node].takes_commands:
                world.propose(node, rng.randrange(1, 4))
        elif chance < 0.993:
            if node in world.running:
                kill_quietly(world, node)
        elif chance < 0.998:
            if node not in world.running:
                start_quietly(world, node)
        elif world.cut:
            world.heal()
        else:
            world.isolate(node)


def kill_quietly(world: World, node: int) -> None:
    """A crash of which the others hear sometime."""
    machine = world.machines[world.ids[node - 1]]
    machine.engine = None
    machine.writes.clear()
    machine.held.clear()
    world.under_way = [item for item in world.under_way if item[1] != node]


def start_quietly(world: World, node: int) -> None:
    """A start without waiting for anything."""
    settle, world.settle = world.settle, lambda: None  # type: ignore[method-assign]
    world.start(world.ids[node - 1])
    world.settle = settle  # type: ignore[method-assign]


def finish(world: World) -> None:
    """All faults end: everybody must be level, and the answered commands in everybody's line."""
    for node in world.ids:
        if node not in world.running:
            start_quietly(world, node)
    world.heal()
    world.run_until(world.is_level)
    assert len(world.line) >= world.answered
    primary = world.primary
    assert primary is not None
    before = primary.adu
    world.propose(primary.node, 2)
    world.run_until(lambda: world.is_level() and world[1].adu >= before + 2)


@pytest.mark.parametrize("nodes", [2, 3, 4, 5], ids=lambda nodes: f"{nodes} nodes")
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_one_line_and_nothing_answered_is_lost(nodes: int, seed: int) -> None:
    world = World(nodes, seed)
    rng = random.Random(seed)
    storm(world, rng, 900)
    finish(world)


@pytest.mark.parametrize("nodes", [3, 5], ids=lambda nodes: f"{nodes} nodes")
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_rot_on_one_disk_never_makes_a_second_line(nodes: int, seed: int) -> None:
    """It may stop the cluster, where nobody else has what has rotted; it must not make anybody forget or invent."""
    world = World(nodes, seed)
    rng = random.Random(seed)
    victim = rng.choice(world.ids)
    for _ in range(4):
        storm(world, rng, 400)
        machine = world.machines[victim]
        if victim in world.running:
            kill_quietly(world, victim)
        if machine.durable:
            machine.rotten.add(rng.randrange(len(machine.durable)))
        start_quietly(world, victim)
    for node in world.ids:
        if node not in world.running:
            start_quietly(world, node)
    world.heal()
    world.run(5000)
    if world.primary is not None:
        world.propose(world.primary.node, 2)
        world.run(2000)
        assert len(world.line) >= world.answered
