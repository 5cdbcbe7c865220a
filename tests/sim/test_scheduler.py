"""Virtual time: actions run in the order of their times, and of their scheduling within a millisecond."""

import pytest

from paxos_twisted.sim.scheduler import Scheduler


def test_actions_run_in_the_order_of_their_times() -> None:
    scheduler, seen = Scheduler(), list[tuple[int, str]]()
    for delay, name in ((5, "c"), (1, "a"), (5, "d"), (3, "b")):
        scheduler.after(delay, lambda name=name: seen.append((scheduler.now_ms, name)))
    scheduler.run(10, 100)
    assert seen == [(1, "a"), (3, "b"), (5, "c"), (5, "d")]
    assert scheduler.now_ms == 10


def test_what_is_scheduled_for_now_runs_after_what_was_there() -> None:
    scheduler, seen = Scheduler(), list[str]()

    def first() -> None:
        seen.append("first")
        scheduler.at(0, lambda: seen.append("nested"))  # the past means now

    scheduler.after(2, first)
    scheduler.after(2, lambda: seen.append("second"))
    scheduler.run(2, 100)
    assert seen == ["first", "second", "nested"]


def test_a_cancelled_timer_does_not_run() -> None:
    scheduler, seen = Scheduler(), list[str]()
    timer = scheduler.timer(1, lambda: seen.append("cancelled"))
    scheduler.timer(2, lambda: seen.append("kept"))
    timer.cancel()
    timer.cancel()
    scheduler.run(5, 100)
    assert seen == ["kept"]
    assert scheduler.events == 1


def test_an_endless_circle_ends_at_the_bound() -> None:
    scheduler = Scheduler()

    def again() -> None:
        scheduler.after(0, again)

    again()
    scheduler.run(1, 50)
    assert scheduler.events == 50


@pytest.mark.parametrize("until", [0, 7])
def test_time_moves_on_without_actions(until: int) -> None:
    scheduler = Scheduler()
    assert not scheduler.step(until)
    assert scheduler.now_ms == until
