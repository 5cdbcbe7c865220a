"""The end of a turn: one flush, one push per connection, whatever came in."""

from twisted.internet.task import Clock

from paxos_twisted.net.turn import Turn


class Recorder:
    """A connection that only notes what is asked of it."""

    def __init__(self, notes: list[str], name: str, error: Exception | None = None) -> None:
        self.notes, self.name, self.error = notes, name, error

    def push(self) -> None:
        self.notes.append(f"push {self.name}")
        if self.error:
            raise self.error

    def abort(self) -> None:
        self.notes.append(f"abort {self.name}")


def make() -> tuple[Clock, Turn, list[str]]:
    clock = Clock()
    turn = Turn(clock)
    notes: list[str] = []
    turn.flush = lambda: notes.append("flush")
    turn.after = lambda: notes.append("after")
    return clock, turn, notes


def test_many_inputs_of_a_turn_lead_to_one_flush() -> None:
    clock, turn, notes = make()
    for _ in range(100):
        turn.soon()
    assert notes == []
    clock.advance(0)
    assert notes == ["flush", "after"]
    clock.advance(1)
    assert notes == ["flush", "after"]


def test_pushes_follow_the_flush_that_asked_for_them() -> None:
    clock, turn, notes = make()
    connection = Recorder(notes, "a")
    turn.flush = lambda: (notes.append("flush"), turn.push_soon(connection))  # type: ignore[assignment,return-value]
    turn.soon()
    clock.advance(0)
    assert notes == ["flush", "push a", "after"]
    assert not clock.getDelayedCalls()


def test_a_push_asked_for_outside_a_flush_ends_the_turn_too() -> None:
    clock, turn, notes = make()
    turn.push_soon(Recorder(notes, "a"))
    clock.advance(0)
    assert notes == ["flush", "push a", "after"]


def test_an_input_during_the_flush_leads_to_another_turn() -> None:
    clock, turn, notes = make()

    def flush() -> None:
        notes.append("flush")
        if len(notes) == 1:
            turn.soon()

    turn.flush = flush
    turn.soon()
    clock.advance(0)
    clock.advance(0)
    assert notes == ["flush", "after", "flush", "after"]


def test_a_connection_that_cannot_be_written_disturbs_no_other() -> None:
    clock, turn, notes = make()
    turn.push_soon(Recorder(notes, "a", OSError("gone")))
    turn.push_soon(Recorder(notes, "b"))
    clock.advance(0)
    assert notes == ["flush", "push a", "abort a", "push b", "after"]


def test_after_stop_nothing_goes_out_any_more() -> None:
    clock, turn, notes = make()
    turn.push_soon(Recorder(notes, "a"))
    turn.stop()
    clock.advance(0)
    assert notes == []


def test_a_flush_that_stops_the_turn_pushes_nothing() -> None:
    clock, turn, notes = make()
    turn.push_soon(Recorder(notes, "a"))
    turn.flush = turn.stop
    clock.advance(0)
    assert notes == []
